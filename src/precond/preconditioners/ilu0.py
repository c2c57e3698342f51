"""Incomplete LU without fill."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import numpy as np
import scipy.sparse
from torch import Tensor

from precond.core import BadInputError, Evidence, Health, IncompatibleError, Need, Preconditioner, Scope, Traits
from precond.math.incomplete import incomplete_lu
from precond.preconditioners.triangles import TrianglesState, arrays, operator_with_entries, sweep


@final
@dataclasses.dataclass(frozen=True)
class ILU0(Preconditioner[TrianglesState]):
    """Incomplete LU on the pattern of the matrix, ILU(0), with its rows scaled to unit largest entry.

    ``R A + alpha diag(sign) ~ L U`` with ``R`` the scaling, ``sign`` that of the diagonal, so that
    ``apply(v) = U^-1 L^-1 R v``. Starts with ``alpha = 0``; when a pivot is too small, again with
    ``alpha = first_shift``, then twice that, and so on; ``refresh`` reports the shift.

    Attributes:
        first_shift: The first ``alpha`` that is tried after a breakdown.
        smallest_pivot: Pivots must be larger than this, relative to the entries of the row.
    """

    first_shift: float = 1e-3
    smallest_pivot: float = 1e-10

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the shift."""
        if not self.first_shift > 0:
            raise BadInputError(f"ilu0 needs a positive first_shift, not {self.first_shift}")

    @property
    def traits(self) -> Traits:
        """Linear and fixed."""
        return Traits(symmetric=False, definite=False)

    def init(self, like: Tensor) -> TrianglesState:
        """Start as the identity."""
        return TrianglesState()

    def observe(self, state: TrianglesState, evidence: Evidence) -> None:
        """Take the matrix."""
        state.operator = operator_with_entries(evidence, "ilu0")

    def refresh(self, state: TrianglesState) -> Health:
        """Factor the matrix, with the smallest shift of the sequence that works."""
        matrix = None if state.operator is None else state.operator.entries()
        if matrix is None:
            return Health()
        matrix, scale = _prepared(matrix)
        row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        diagonal = np.flatnonzero(row == matrix.indices)
        sign = np.where(matrix.data[diagonal].real < 0, -1, 1)
        shift = 0.0
        while True:
            data = matrix.data.copy()
            data[diagonal] += (shift * sign).astype(data.dtype)
            factors, failed = incomplete_lu(matrix.indptr, matrix.indices, data, diagonal, self.smallest_pivot)
            if failed < 0 and np.isfinite(factors).all():
                break
            shift = max(2 * shift, self.first_shift)
            if shift > 1e6:
                return Health(failures=1, detail="ilu0: no shift made the pivots large enough; the last factor is kept")
        both = scipy.sparse.csr_array((factors, matrix.indices, matrix.indptr), shape=matrix.shape)
        pivots = factors[diagonal]
        state.lower = sweep(arrays(scipy.sparse.tril(both, -1)), -1)
        state.upper = sweep(arrays(scipy.sparse.diags_array(1 / pivots) @ scipy.sparse.triu(both, 1)), 1)
        state.scales = (scale, 1 / pivots, scale[:0])
        state.shift = shift
        detail = f"ilu0: the diagonal was shifted by {shift:g} times the largest entry of each row" if shift else ""
        return Health(detail=detail)

    def apply(self, state: TrianglesState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Solve with ``L``, then with ``U``."""
        if shift != 0:
            raise IncompatibleError("ilu0 accepts no shift: use jacobi or identity")
        return state.apply(v)

    def apply_adjoint(self, state: TrianglesState, v: Tensor) -> Tensor:
        """Solve with ``U^H``, then with ``L^H``."""
        return state.apply_adjoint(v)


def _prepared(matrix: scipy.sparse.csr_array) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """Return the matrix with its rows scaled, sorted and with a place for each diagonal entry; and the scaling."""
    n = matrix.shape[0]
    largest = np.zeros(n)
    row = np.repeat(np.arange(n), np.diff(matrix.indptr))
    np.maximum.at(largest, row, np.abs(matrix.data))
    scale = (1 / np.where(largest == 0, 1, largest)).astype(matrix.dtype)
    every = np.arange(n)
    complete = scipy.sparse.coo_array(
        (
            np.concatenate([matrix.data * scale[row], np.zeros(n, matrix.dtype)]),
            (np.concatenate([row, every]), np.concatenate([matrix.indices, every])),
        ),
        shape=(n, n),
    ).tocsr()  # adds up duplicates, keeps zeros
    complete.sort_indices()
    return complete, scale
