"""Incomplete Cholesky with a threshold and limited fill, shifted when it breaks down."""

from __future__ import annotations

import dataclasses
from typing import final

import scipy.sparse

from precond.core import BadInputError
from precond.math.sparse.domains import Domains
from precond.math.sparse.incomplete import threshold_cholesky
from precond.math.sparse.sweeps import Array, Triangle
from precond.preconditioners.shifted import Factor, IncompleteCholesky
from precond.preconditioners.triangles import check_domains


@final
@dataclasses.dataclass(frozen=True)
class ICT(IncompleteCholesky):
    """Incomplete Cholesky that keeps fill where it is large, of the matrix scaled to unit diagonal.

    With ``S = |diag(A)|^-1/2``: ``S A S + alpha I ~ L L^H``. Of each column, entries of at most ``drop`` times the norm
    of the column of ``S A S`` are dropped before they are divided by the pivot; of the others the largest stay, as many
    as the matrix has there and ``fill`` more. Shifts as for `IC0`.

    Attributes:
        drop: Threshold, relative; zero drops by number alone.
        fill: Additional entries of a column.
        first_shift: The first ``alpha`` that is tried after a breakdown.
        smallest_pivot: Pivots of the scaled matrix must be larger than this.
        domains: Domains into which the matrix is cut, for its sweeps, as for `IC0`; costs more iterations than there.
    """

    drop: float = 1e-3
    fill: int = 10
    first_shift: float = 1e-3
    smallest_pivot: float = 1e-8
    domains: int | None = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 <= self.drop < 1 or self.fill < 0 or not self.first_shift > 0:
            raise BadInputError(
                "ict needs 0 <= drop < 1, fill >= 0 and a positive first_shift, not "
                f"{self.drop}, {self.fill} and {self.first_shift}"
            )
        check_domains("ict", self.domains)

    def factorization(self, matrix: scipy.sparse.csr_array, scale: Array, domains: Domains | None) -> Factor:
        """Return what factors ``S A S`` column by column; fill stays within domains and separators."""
        diagonal = scipy.sparse.diags_array(scale)
        scaled = scipy.sparse.csr_array(diagonal @ matrix @ diagonal)
        scaled.sort_indices()

        def factor(shift: float) -> tuple[Triangle, int]:
            return threshold_cholesky(scaled, shift, self.smallest_pivot, self.drop, self.fill)

        return factor
