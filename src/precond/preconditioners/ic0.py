"""Incomplete Cholesky without fill, shifted when it breaks down."""

from __future__ import annotations

import dataclasses
from typing import final

import scipy.sparse

from precond.core import BadInputError
from precond.math.sparse.domains import Domains
from precond.math.sparse.incomplete import incomplete_cholesky, scaled_lower
from precond.math.sparse.sweeps import Array, Triangle
from precond.preconditioners.shifted import Factor, IncompleteCholesky
from precond.preconditioners.triangles import check_domains


@final
@dataclasses.dataclass(frozen=True)
class IC0(IncompleteCholesky):
    """Incomplete Cholesky on the pattern of the matrix, IC(0), of the matrix scaled to unit diagonal.

    With ``S = |diag(A)|^-1/2``: ``S A S + alpha I ~ L L^H``, so that ``apply(v) = S L^-H L^-1 S v``. The factorization
    starts with ``alpha = 0``; when a pivot is not positive it starts again with ``alpha = first_shift``, then twice
    that, and so on (Manteuffel). ``refresh`` reports the shift it ended with, and the next one starts from it halved.

    A matrix may be cut into domains, factored independently, and what separates them, so that two threads can share the
    work (`precond.math.sparse.domains`); results do not depend on how many do.

    Attributes:
        first_shift: The first ``alpha`` that is tried after a breakdown.
        smallest_pivot: Pivots of the scaled matrix must be larger than this (squares of the diagonal of ``L``).
        domains: Domains into which the matrix is cut, 1 for none. ``None`` cuts into 8 from 65 536 unknowns on, for a
            single right-hand side, where few rows separate, and what couples them to earlier domains is at most 0.4 of
            what couples them at all.
    """

    first_shift: float = 1e-3
    smallest_pivot: float = 1e-8
    domains: int | None = None

    def __post_init__(self) -> None:
        """Check the shift and the domains."""
        if not self.first_shift > 0:
            raise BadInputError(f"ic0 needs a positive first_shift, not {self.first_shift}")
        check_domains("ic0", self.domains)

    def factorization(self, matrix: scipy.sparse.csr_array, scale: Array, domains: Domains | None) -> Factor:
        """Return what factors the lower triangle of ``S A S`` on its pattern."""
        indptr, indices, data = scaled_lower(matrix, scale)
        ends = domains.ends if domains else [0]

        def factor(shift: float) -> tuple[Triangle, int]:
            values, failed = incomplete_cholesky(indptr, indices, data, shift, self.smallest_pivot, ends)
            return (indptr, indices, values), failed

        return factor
