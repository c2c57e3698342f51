"""A pair of triangular sweeps as a state: what SSOR and incomplete factorizations are applied by."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Health, IncompatibleError, Need, Operator, Preconditioner, Scope
from precond.math.krylov.vectors import settled
from precond.math.sparse.domains import Domains, split
from precond.math.sparse.sweeps import Array, Sweep, adjoint_sweep, arrays, sweep, two_sweeps
from precond.preconditioners.shifts import refuse_shift

LARGE = 2**16
"""Unknowns from which on a matrix is cut into domains where a part leaves that open."""
_domains = 8  # whatever the number of threads, so that results do not depend on it
_weak = 0.4  # share of what couples separators: the stronger they are coupled across, the more iterations a cut costs


@dataclasses.dataclass
class TrianglesState:
    """``apply(v) = S3 (I + U)^-1 S2 (I + L)^-1 S1 v`` with strict triangles ``L``, ``U``; the identity while empty.

    Attributes:
        operator: The operator seen last.
        lower: ``L`` as `two_sweeps` takes it.
        upper: ``U``, too.
        scales: The diagonals ``S1, S2, S3``; empty ones stand for ones.
        shift: Shift of the last factorization, in units of the diagonal; the next one starts from it.
        domains: The order of rows and columns in which all these are, if not that of the vectors.
        several: Vectors come several at a time, whose way into another order and back costs more than domains save.
    """

    operator: Operator | None = None
    lower: Sweep | None = None
    upper: Sweep | None = None
    scales: tuple[Array, Array, Array] | None = None
    shift: float = 0.0
    domains: Domains | None = None
    several: bool = False
    _adjoint: tuple[Sweep, Sweep, Sweep] | None = None

    def matrix(self, domains: int | None) -> tuple[scipy.sparse.csr_array | None, Domains | None]:
        """Return the entries of the operator, in the order of domains where it has one, and that order.

        Args:
            domains: Domains to cut into, 1 for none; ``None`` cuts large matrices where that costs few iterations.

        Returns:
            The matrix, ``None`` without an operator, and its order, ``None`` for that of the vectors.
        """
        matrix = None if self.operator is None else self.operator.entries()
        if matrix is None:
            return None, None
        pays = matrix.shape[0] >= LARGE and not self.several
        count, strongest = (domains, 1.0) if domains else (_domains if pays else 1, _weak)
        fits = 1 < count <= matrix.shape[0] and matrix.has_sorted_indices
        order = split(matrix, count, strongest) if fits else None
        return (matrix if order is None else order.ordered(matrix)), order

    def apply(self, v: Tensor) -> Tensor:
        """Sweep forth and back over each vector; those elsewhere than on the CPU go there and come back."""
        if self.lower is None or self.upper is None or self.scales is None:
            return v
        return self._swept(self.lower, self.upper, self.scales, v)

    def compiled(self) -> tuple[Array, ...] | None:
        """Return the arrays of `apply`, none while it is the identity; ``None`` where there are domains."""
        if self.lower is None or self.upper is None or self.scales is None:
            return ()
        return (*self.lower, *self.upper, *self.scales) if self.domains is None else None

    def apply_adjoint(self, v: Tensor) -> Tensor:
        """Return ``S1^H (I + L^H)^-1 S2^H (I + U^H)^-1 S3^H v``; the adjoints are formed once for each pair."""
        if self.lower is None or self.upper is None or self.scales is None:
            return v
        if self._adjoint is None or self._adjoint[0] is not self.lower:
            self._adjoint = (self.lower, adjoint_sweep(self.upper, 1), adjoint_sweep(self.lower, -1))
        _, lower, upper = self._adjoint
        s1, s2, s3 = (np.conj(s) for s in self.scales)
        return self._swept(lower, upper, (s3, s2, s1), v)

    def _swept(self, lower: Sweep, upper: Sweep, scales: tuple[Array, Array, Array], v: Tensor) -> Tensor:
        vectors = settled(v).numpy(force=True)
        sweeps = two_sweeps if self.domains is None else self.domains.sweeps
        swept = torch.from_numpy(sweeps(lower, upper, scales, vectors))
        return swept if v.is_cpu else swept.to(v.device)


class Swept(Preconditioner[TrianglesState], abc.ABC):
    """A preconditioner that is applied by a pair of triangular sweeps."""

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL
    side_by_side: ClassVar[bool] = True

    def init(self, like: Tensor) -> TrianglesState:
        """Start as the identity."""
        return TrianglesState(several=len(like) > 1)

    def observe(self, state: TrianglesState, evidence: Evidence) -> None:
        """Take the matrix."""
        state.operator = operator_with_entries(evidence, type(self).__name__.lower())

    @abc.abstractmethod
    def refresh(self, state: TrianglesState) -> Health:
        """Make the triangles of the matrix."""

    def compiled(self, state: TrianglesState) -> tuple[Any, ...] | None:
        """Return the arrays of both sweeps."""
        return state.compiled()

    def apply(self, state: TrianglesState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Sweep forth, then back."""
        refuse_shift(self, shift)
        return state.apply(v)


def check_domains(name: str, domains: int | None) -> None:
    """Refuse a number of domains that makes no sense."""
    if domains is not None and domains < 1:
        raise BadInputError(f"{name} needs at least one domain, not {domains}")


def operator_with_entries(evidence: Evidence, name: str) -> Operator:
    """Return the operator of the evidence; refuse one without entries."""
    operator = evidence.operator
    if operator is None or not operator.has_entries:
        raise IncompatibleError(
            f"{name} needs the entries of the matrix, this operator has only products: give a dense or sparse matrix, "
            "or use preconditioner='identity'"
        )
    return operator


__all__ = ["LARGE", "Swept", "TrianglesState", "arrays", "check_domains", "operator_with_entries", "sweep"]
