"""Incomplete Cholesky without fill, shifted when it breaks down."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

from torch import Tensor

from precond.core import BadInputError, Evidence, Health, IncompatibleError, Need, Preconditioner, Scope, Traits
from precond.math.incomplete import Triangle, incomplete_cholesky, scaled_lower
from precond.preconditioners.shifted import factor_with_shifts, unit_scale
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
    side_by_side: ClassVar[bool] = True

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
        scale = unit_scale(matrix)
        indptr, indices, data = scaled_lower(matrix, scale)

        def factor(shift: float) -> tuple[Triangle, int]:
            values, failed = incomplete_cholesky(indptr, indices, data, shift, self.smallest_pivot)
            return (indptr, indices, values), failed

        return factor_with_shifts(state, factor, scale, self.first_shift, "ic0")

    def compiled(self, state: TrianglesState) -> tuple[Any, ...]:
        """Return the arrays of both sweeps."""
        return state.compiled()

    def apply(self, state: TrianglesState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Solve with ``L``, then with ``L^H``."""
        if shift != 0:
            raise IncompatibleError("ic0 accepts no shift: use jacobi or identity")
        return state.apply(v)
