"""Incomplete Cholesky without fill, shifted when it breaks down."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import numpy as np
from torch import Tensor

from precond.core import BadInputError, Evidence, Health, IncompatibleError, Need, Preconditioner, Scope, Traits
from precond.math.incomplete import cholesky_sweeps, incomplete_cholesky, scaled_lower
from precond.preconditioners.triangles import TrianglesState, operator_with_entries


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
        scale = scale.astype(diagonal.dtype)
        indptr, indices, data = scaled_lower(matrix, scale)

        shift = 0.0 if state.shift <= self.first_shift else state.shift / 2
        factor, failed = incomplete_cholesky(indptr, indices, data, shift, self.smallest_pivot)
        first_failure = failed
        while failed >= 0 and np.isfinite(shift):
            shift = max(2 * shift, self.first_shift)
            factor, failed = incomplete_cholesky(indptr, indices, data, shift, self.smallest_pivot)
        if failed >= 0:
            return Health(failures=1, detail="ic0: no shift made the pivots positive; the last factor is kept")

        state.lower, state.upper, between = cholesky_sweeps((indptr, indices, factor), scale)
        state.scales = (between[:0], between, between[:0])
        state.shift = shift
        if first_failure < 0 and shift == 0:
            return Health()
        return Health(detail=f"ic0: the diagonal was shifted by {shift:g} times itself to keep the pivots positive")

    def apply(self, state: TrianglesState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Solve with ``L``, then with ``L^H``."""
        if shift != 0:
            raise IncompatibleError("ic0 accepts no shift: use jacobi or identity")
        return state.apply(v)
