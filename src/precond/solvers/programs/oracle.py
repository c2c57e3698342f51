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

    Methods go beyond bounds by a little. Where the functions raise there, or have no finite values, those at the bound
    are taken, or if need be as far within it, for derivatives may be infinite at a bound; second ones always there.
    Trial points where they raise arithmetic errors count as points where they are not numbers.
    """

    def __init__(self, lower: Tensor, upper: Tensor, equations: int, work: Work | None = None) -> None:
        super().__init__(lower, upper, equations, work)
        self._moved: tuple[Tensor, Tensor] | None = None

    def _values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for y in self._instead(x):
            try:
                found = self._values_at(y)
                if _finite(*found):
                    return found
            except Exception as error:  # users' functions may refuse a point in any way
                logger.debug("evaluated nearer to the bounds: %s", error)
        try:
            return self._values_at(x)
        except (ArithmeticError, ValueError) as error:  # as math.log raises where torch.log is not a number
            logger.debug("no values at a trial point: %s", error)
            return x.new_full((), torch.nan), x.new_full((self.equations,), torch.nan)

    def _site(self, x: Tensor) -> Site:
        for y in (places := self._instead(x)):
            try:
                site = self._site_at(y)
                if _finite(site.loss, site.constraints, site.gradient):
                    self._moved = None if y is x else (x, places[-1])
                    return dataclasses.replace(site, x=x)
            except Exception as error:  # as above
                logger.debug("evaluated nearer to the bounds: %s", error)
        return self._site_at(x)

    def _instead(self, x: Tensor) -> list[Tensor]:
        """Return where to evaluate in turn where ``x`` lies beyond a bound; nothing where it does not."""
        at = x.clamp(self.lower, self.upper)
        return [] if torch.equal(at, x) else [x, at, (2 * at - x).clamp(self.lower, self.upper)]

    def hessian(self, site: Site, multipliers: Tensor) -> Operator:
        """Return the Hessian of the Lagrangian; within the bounds where first derivatives could not be had beyond."""
        moved = self._moved
        x = site.x if moved is None or not torch.equal(moved[0], site.x) else moved[1]
        return self._hessian_at(x, multipliers)

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
