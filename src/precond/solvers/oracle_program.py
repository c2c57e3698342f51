"""What programs of users' functions have in common: evaluations within bounds, and their Jacobians."""

from __future__ import annotations

import abc
import dataclasses
import logging

import scipy.sparse
import torch
from torch import Tensor

from precond.core import Operator, OperatorTraits, Program, Site, Work
from precond.operators.compressed import Recovered
from precond.operators.dense import DenseOperator

logger = logging.getLogger(__name__)


class OracleProgram(Program):
    """A program of users' functions, which may be defined within the bounds alone.

    Methods go beyond bounds by a little. Where the functions raise there, or have no finite values, those at the
    nearest point within the bounds are taken.
    """

    def __init__(self, lower: Tensor, upper: Tensor, equations: int, work: Work | None = None) -> None:
        super().__init__(lower, upper, equations, work)
        self._moved: tuple[Tensor, Tensor] | None = None

    def _values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inside = x.clamp(self.lower, self.upper)
        if torch.equal(inside, x):
            return self._values_at(x)
        try:
            loss, constraints = self._values_at(x)
        except Exception as error:  # users' functions may refuse a point in any way
            logger.debug("evaluated within the bounds: %s", error)
            return self._values_at(inside)
        return (loss, constraints) if _finite(loss, constraints) else self._values_at(inside)

    def _site(self, x: Tensor) -> Site:
        inside = x.clamp(self.lower, self.upper)
        if not torch.equal(inside, x):
            try:
                site = self._site_at(x)
                if _finite(site.loss, site.constraints, site.gradient):
                    return site
            except Exception as error:  # as above
                logger.debug("evaluated within the bounds: %s", error)
            self._moved = x, inside
            return dataclasses.replace(self._site_at(inside), x=x)
        return self._site_at(x)

    def hessian(self, site: Site, multipliers: Tensor) -> Operator:
        """Return the Hessian of the Lagrangian, where first derivatives were evaluated."""
        moved = self._moved is not None and torch.equal(self._moved[0], site.x)
        return self._hessian_at(self._moved[1] if moved and self._moved is not None else site.x, multipliers)

    @abc.abstractmethod
    def _values_at(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    @abc.abstractmethod
    def _site_at(self, x: Tensor) -> Site: ...

    @abc.abstractmethod
    def _hessian_at(self, x: Tensor, multipliers: Tensor) -> Operator: ...


def _finite(*values: Tensor) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in values)


class MatrixJacobian(DenseOperator):
    """A Jacobian, of which neither symmetry nor finiteness is looked at."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix.detach()
        self.shape = (matrix.shape[0], matrix.shape[1])
        self.dtype, self.device = matrix.dtype, matrix.device
        self.traits = OperatorTraits(symmetric=False)
        self._half = None
        self._entries = None
        self._double = None


class SparseJacobian(Recovered):
    """A sparse Jacobian, of which neither symmetry nor finiteness is looked at."""

    def __init__(self, matrix: scipy.sparse.csr_array, like: Tensor) -> None:
        super().__init__(matrix, MatrixJacobian(like.new_zeros(0, matrix.shape[1])))
