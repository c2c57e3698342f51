"""Incomplete Cholesky with a threshold and limited fill, shifted when it breaks down."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

import scipy.sparse
from torch import Tensor

from precond.core import BadInputError, Evidence, Health, IncompatibleError, Need, Preconditioner, Scope, Traits
from precond.math.incomplete import Triangle, threshold_cholesky
from precond.preconditioners.shifted import factor_with_shifts, unit_scale
from precond.preconditioners.shifts import refuse_shift
from precond.preconditioners.triangles import TrianglesState, operator_with_entries


@final
@dataclasses.dataclass(frozen=True)
class ICT(Preconditioner[TrianglesState]):
    """Incomplete Cholesky that keeps fill where it is large, of the matrix scaled to unit diagonal.

    With ``S = |diag(A)|^-1/2``: ``S A S + alpha I ~ L L^H``. Of each column, entries of at most ``drop`` times the norm
    of the column of ``S A S`` are dropped before they are divided by the pivot; of the others the largest stay, as many
    as the matrix has there and ``fill`` more. Shifts as for `IC0`.

    Attributes:
        drop: Threshold, relative; zero drops by number alone.
        fill: Additional entries of a column.
        first_shift: The first ``alpha`` that is tried after a breakdown.
        smallest_pivot: Pivots of the scaled matrix must be larger than this.
    """

    drop: float = 1e-3
    fill: int = 10
    first_shift: float = 1e-3
    smallest_pivot: float = 1e-8

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL
    side_by_side: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 <= self.drop < 1 or self.fill < 0 or not self.first_shift > 0:
            raise BadInputError(
                "ict needs 0 <= drop < 1, fill >= 0 and a positive first_shift, not "
                f"{self.drop}, {self.fill} and {self.first_shift}"
            )

    @property
    def traits(self) -> Traits:
        """Symmetric and positive definite, always."""
        return Traits()

    def init(self, like: Tensor) -> TrianglesState:
        """Start as the identity."""
        return TrianglesState()

    def observe(self, state: TrianglesState, evidence: Evidence) -> None:
        """Take the matrix; refuse one that is known not to be symmetric."""
        operator = operator_with_entries(evidence, "ict")
        if operator.traits.symmetric is False:
            raise IncompatibleError("ict needs a symmetric matrix, this is not: use preconditioner='ilut' or 'ilu0'")
        state.operator = operator

    def refresh(self, state: TrianglesState) -> Health:
        """Factor the matrix, with the smallest shift of the sequence that works."""
        matrix = None if state.operator is None else state.operator.entries()
        if matrix is None:
            return Health()
        scale = unit_scale(matrix)
        diagonal = scipy.sparse.diags_array(scale)
        scaled = scipy.sparse.csr_array(diagonal @ matrix @ diagonal)
        scaled.sort_indices()

        def factor(shift: float) -> tuple[Triangle, int]:
            return threshold_cholesky(scaled, shift, self.smallest_pivot, self.drop, self.fill)

        return factor_with_shifts(state, factor, scale, self.first_shift, "ict")

    def compiled(self, state: TrianglesState) -> tuple[Any, ...]:
        """Return the arrays of both sweeps."""
        return state.compiled()

    def apply(self, state: TrianglesState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Solve with ``L``, then with ``L^H``."""
        refuse_shift(self, shift)
        return state.apply(v)
