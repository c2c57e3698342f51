"""Incomplete LU without fill."""

from __future__ import annotations

import dataclasses
from typing import final

import numpy as np
import scipy.sparse
from torch import Tensor

from precond.core import BadInputError, Health, Traits
from precond.math.sparse.incomplete import incomplete_lu, scaled_rows
from precond.math.sparse.sweeps import split_sweeps
from precond.preconditioners.triangles import Swept, TrianglesState, check_domains

_slack = 4.0  # of the compensation: so many times the spacing of a square grid


@final
@dataclasses.dataclass(frozen=True)
class ILU0(Swept):
    """Incomplete LU on the pattern of the matrix, ILU(0), with its rows scaled to unit largest entry.

    ``R A + alpha diag(sign) ~ L U`` with ``R`` the scaling, ``sign`` that of the diagonal, so that
    ``apply(v) = U^-1 L^-1 R v``. With ``compensation = w``, ``w`` times what a row drops is added to its
    pivot; with ``w = 1`` the row sums are those of the matrix (I. Gustafsson, *A class of first order factorization
    methods*, 1978; between 0 and 1: O. Axelsson, G. Lindskog, *On the eigenvalue distribution of a class of
    preconditioning methods*, 1986). A row whose pivot would lose more than nine tenths by that is left as it is. The
    finer a grid, the more of it is best, up to a share that goes to one as its spacing goes to zero; beyond it factors
    can become useless at once. So ``compensation=None`` takes ``1 - 4 / sqrt(n)`` of ``n`` unknowns, somewhat
    less than the best of what was measured on grids in two and three dimensions.

    Starts with ``alpha = 0``; when a pivot is too small, again with
    ``alpha = first_shift``, then twice that, and so on; ``refresh`` reports the shift.

    Attributes:
        first_shift: The first ``alpha`` that is tried after a breakdown.
        smallest_pivot: Pivots must be larger than this, relative to the entries of the row.
        compensation: Share of what is dropped that is added to the pivots, from 0 to 1; ``None`` chooses by the size.
        domains: Domains into which the matrix is cut, as for `IC0`.
    """

    first_shift: float = 1e-3
    smallest_pivot: float = 1e-10
    compensation: float | None = 0.0
    domains: int | None = 1

    def __post_init__(self) -> None:
        """Check the shift."""
        if not self.first_shift > 0:
            raise BadInputError(f"ilu0 needs a positive first_shift, not {self.first_shift}")
        if self.compensation is not None and not 0 <= self.compensation <= 1:
            raise BadInputError(f"ilu0 needs a compensation from 0 to 1, not {self.compensation}")
        check_domains("ilu0", self.domains)

    @property
    def traits(self) -> Traits:
        """Linear and fixed."""
        return Traits(symmetric=False, definite=False)

    def refresh(self, state: TrianglesState) -> Health:
        """Factor the matrix, with the smallest shift of the sequence that works."""
        matrix, domains = state.matrix(self.domains)
        if matrix is None:
            return Health()
        scaled = scaled_rows(matrix)
        if scaled is None:
            matrix = _complete(matrix)
            scaled = scaled_rows(matrix)
            assert scaled is not None  # sorted, with its diagonal
        values, scale, diagonal = scaled
        compensation = max(0.0, 1 - _slack / matrix.shape[0] ** 0.5) if self.compensation is None else self.compensation
        sign = np.where(values[diagonal].real < 0, -1, 1)
        shift = 0.0
        while True:
            data = values.copy() if shift else values
            if shift:
                data[diagonal] += (shift * sign).astype(data.dtype)
            factors, failed = incomplete_lu(
                matrix.indptr, matrix.indices, data, diagonal, self.smallest_pivot, compensation,
                domains.ends if domains else [0],
            )  # fmt: skip
            if failed < 0 and np.isfinite(factors).all():
                break
            shift = max(2 * shift, self.first_shift)
            if shift > 1e6:
                return Health(failures=1, detail="ilu0: no shift made the pivots large enough; the last factor is kept")
        state.lower, state.upper, inverse = split_sweeps(matrix.indptr, matrix.indices, factors, diagonal)
        state.scales = (scale, inverse, scale[:0])
        state.shift, state.domains = shift, domains
        detail = f"ilu0: the diagonal was shifted by {shift:g} times the largest entry of each row" if shift else ""
        return Health(detail=detail)

    def apply_adjoint(self, state: TrianglesState, v: Tensor) -> Tensor:
        """Solve with ``U^H``, then with ``L^H``."""
        return state.apply_adjoint(v)


def _complete(matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Return the matrix sorted, its duplicates added up, with a place for each diagonal entry."""
    n = matrix.shape[0]
    row = np.repeat(np.arange(n), np.diff(matrix.indptr))
    every = np.arange(n)
    complete = scipy.sparse.coo_array(
        (
            np.concatenate([matrix.data, np.zeros(n, matrix.dtype)]),
            (np.concatenate([row, every]), np.concatenate([matrix.indices, every])),
        ),
        shape=(n, n),
    ).tocsr()  # adds up duplicates, keeps zeros
    complete.sort_indices()
    return complete
