"""Additive Schwarz: overlapping pieces of the matrix, each factored completely."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Health, Need, Operator, Preconditioner, Scope, Traits
from precond.preconditioners.shifts import refuse_shift
from precond.preconditioners.triangles import operator_with_entries

Array = np.ndarray[Any, Any]


@dataclasses.dataclass
class SchwarzState:
    """State of `Schwarz`; the identity while empty.

    Attributes:
        operator: The operator seen last.
        pieces: Unknowns of each piece, ascending, and the factors of its matrix.
    """

    operator: Operator | None = None
    pieces: list[tuple[Array, Any]] = dataclasses.field(default_factory=list)


@final
@dataclasses.dataclass(frozen=True)
class Schwarz(Preconditioner[SchwarzState]):
    """``apply(v) = sum_i R_i^T (R_i A R_i^T)^-1 R_i v`` over overlapping pieces.

    Pieces are runs of equal length in the order of Cuthill and McKee, which keeps neighbours together, each extended by
    ``overlap`` layers of neighbours in the graph of the matrix. A piece whose matrix is singular gets a small multiple
    of the identity added, and ``refresh`` says so.

    Attributes:
        size: Unknowns of a piece, before it is extended.
        overlap: Layers of neighbours that are added.
    """

    size: int = 1000
    overlap: int = 1

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.size < 1 or self.overlap < 0:
            raise BadInputError(f"schwarz needs size >= 1 and overlap >= 0, not {self.size} and {self.overlap}")

    @property
    def traits(self) -> Traits:
        """Symmetric and positive definite, for a symmetric positive definite matrix."""
        return Traits()

    def init(self, like: Tensor) -> SchwarzState:
        """Start as the identity."""
        return SchwarzState()

    def observe(self, state: SchwarzState, evidence: Evidence) -> None:
        """Take the matrix."""
        state.operator = operator_with_entries(evidence, "schwarz")

    def refresh(self, state: SchwarzState) -> Health:
        """Cut the matrix into pieces and factor them."""
        matrix = None if state.operator is None else state.operator.entries()
        if matrix is None:
            return Health()
        pieces, shifted = [], 0
        for members in self._cut(matrix):
            factors, changed = _factored(scipy.sparse.csc_array(matrix[members][:, members]))
            if factors is None:
                return Health(failures=1, detail="schwarz: a piece could not be factored; the last ones are kept")
            pieces.append((members, factors))
            shifted += changed
        state.pieces = pieces
        detail = f"schwarz: {shifted} of {len(pieces)} pieces are singular, a small diagonal was added"
        return Health(detail=detail if shifted else "")

    def _cut(self, matrix: scipy.sparse.csr_array) -> list[Array]:
        """Return the unknowns of each piece."""
        n = matrix.shape[0]
        pattern = scipy.sparse.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
        graph = scipy.sparse.csr_array(pattern + pattern.T)
        order = scipy.sparse.csgraph.reverse_cuthill_mckee(graph, symmetric_mode=True)
        found = []
        for run in np.array_split(order, max(1, -(-n // self.size))):
            members = np.sort(run)
            for _ in range(self.overlap):
                members = np.union1d(members, graph[members].indices)
            found.append(members)
        return found

    def apply(self, state: SchwarzState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Add up the solutions of the pieces."""
        refuse_shift(self, shift)
        return _summed(state, v, "N")

    def apply_adjoint(self, state: SchwarzState, v: Tensor) -> Tensor:
        """Add up the solutions of the pieces with their adjoint matrices."""
        return _summed(state, v, "H")


def _summed(state: SchwarzState, v: Tensor, which: str) -> Tensor:
    if not state.pieces:
        return v
    right = v.numpy(force=True).T
    total = np.zeros(right.shape, right.dtype)
    for members, factors in state.pieces:
        total[members] += factors.solve(np.ascontiguousarray(right[members]), which)
    return torch.from_numpy(np.ascontiguousarray(total.T)).to(v.device)


def _factored(matrix: scipy.sparse.csc_array) -> tuple[Any, bool]:
    """Return SuperLU's factors, and whether the diagonal had to be raised for them."""
    largest = float(np.abs(matrix.data).max(initial=0)) or 1.0
    one = scipy.sparse.eye_array(matrix.shape[0], dtype=matrix.dtype, format="csc")
    for shift in (0.0, 1e-8, 1e-4, 1.0):
        try:
            factors = scipy.sparse.linalg.splu(matrix + shift * largest * one if shift else matrix)
        except (RuntimeError, MemoryError):
            continue
        if np.isfinite(factors.solve(np.ones(matrix.shape[0], matrix.dtype))).all():
            return factors, shift != 0
    return None, True
