"""Incomplete Cholesky without fill, shifted when it breaks down."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import numpy as np
import scipy.sparse
from torch import Tensor

from precond.core import BadInputError, Evidence, Health, IncompatibleError, Need, Preconditioner, Scope, Traits
from precond.math.incomplete import incomplete_cholesky
from precond.preconditioners.triangles import TrianglesState, arrays, operator_with_entries


@final
@dataclasses.dataclass(frozen=True)
class IC0(Preconditioner[TrianglesState]):
    """Incomplete Cholesky on the pattern of the matrix, IC(0), of the matrix scaled to unit diagonal.

    With ``S = |diag(A)|^-1/2``: ``S A S + alpha I ~ L L^H``, so that ``apply(v) = S L^-H L^-1 S v``. The factorization
    starts with ``alpha = 0``; when a pivot is not positive it starts again with ``alpha = first_shift``, then twice
    that, and so on (Manteuffel). ``refresh`` reports the shift it ended with, and the next one starts from it halved.

    Attributes:
        first_shift: The first ``alpha`` that is tried after a breakdown.
        smallest_pivot: Pivots of the scaled matrix must be larger than this (squares of the diagonal of ``L``).
    """

    first_shift: float = 1e-3
    smallest_pivot: float = 1e-8

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the shift."""
        if not self.first_shift > 0:
            raise BadInputError(f"ic0 needs a positive first_shift, not {self.first_shift}")

    @property
    def traits(self) -> Traits:
        """Symmetric and positive definite, always."""
        return Traits()

    def init(self, like: Tensor) -> TrianglesState:
        """Start as the identity."""
        return TrianglesState()

    def observe(self, state: TrianglesState, evidence: Evidence) -> None:
        """Take the matrix; refuse one that is known not to be symmetric."""
        operator = operator_with_entries(evidence, "ic0")
        if operator.traits.symmetric is False:
            raise IncompatibleError("ic0 needs a symmetric matrix, this is not: use preconditioner='ssor' or 'jacobi'")
        state.operator = operator

    def refresh(self, state: TrianglesState) -> Health:
        """Factor the matrix, with the smallest shift of the sequence that works."""
        matrix = None if state.operator is None else state.operator.entries()
        if matrix is None:
            return Health()
        diagonal = np.abs(matrix.diagonal())
        scale = 1 / np.sqrt(np.where(diagonal == 0, 1, diagonal))
        indptr, indices, data = _scaled_lower(matrix, scale)

        shift = 0.0 if state.shift <= self.first_shift else state.shift / 2
        factor, failed = incomplete_cholesky(indptr, indices, data, shift, self.smallest_pivot)
        first_failure = failed
        while failed >= 0 and np.isfinite(shift):
            shift = max(2 * shift, self.first_shift)
            factor, failed = incomplete_cholesky(indptr, indices, data, shift, self.smallest_pivot)
        if failed >= 0:
            return Health(failures=1, detail="ic0: no shift made the pivots positive; the last factor is kept")

        lower = scipy.sparse.csr_array((factor, indices, indptr), shape=matrix.shape)
        pivots = lower.diagonal()
        strict = scipy.sparse.tril(lower @ scipy.sparse.diags_array(1 / pivots), -1)  # L = (I + strict) diag(pivots)
        state.lower = arrays(strict)
        state.upper = arrays(strict.conj().T)
        state.scales = (scale, 1 / np.abs(pivots) ** 2, scale)
        state.shift = shift
        if first_failure < 0 and shift == 0:
            return Health()
        return Health(detail=f"ic0: the diagonal was shifted by {shift:g} times itself to keep the pivots positive")

    def apply(self, state: TrianglesState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Solve with ``L``, then with ``L^H``."""
        if shift != 0:
            raise IncompatibleError("ic0 accepts no shift: use jacobi or identity")
        return state.apply(v)


def _scaled_lower(matrix: scipy.sparse.csr_array, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the lower triangle of ``S A S`` with sorted columns, every row ending with its diagonal entry."""
    n = matrix.shape[0]
    present = scipy.sparse.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    missing = present.diagonal() == 0
    if missing.any():  # keep a place for the pivot; an explicit zero survives only as stored data
        rows = np.flatnonzero(missing)
        entries = matrix.tocoo()
        matrix = scipy.sparse.coo_array(
            (
                np.concatenate([entries.data, np.zeros(rows.size, matrix.dtype)]),
                (np.concatenate([entries.row, rows]), np.concatenate([entries.col, rows])),
            ),
            shape=(n, n),
        ).tocsr()
    lower = scipy.sparse.csr_array(scipy.sparse.tril(matrix))
    lower.sort_indices()
    row = np.repeat(np.arange(n), np.diff(lower.indptr))
    data = (lower.data * (scale[row] * scale[lower.indices])).astype(matrix.dtype)
    return lower.indptr, lower.indices, data
