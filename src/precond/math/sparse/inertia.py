"""Symmetric indefinite factorizations that tell how many eigenvalues are positive, negative and zero."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

LOST = 100.0
"""An eigenvalue of ``D`` is zero below so many units of rounding for each row, of the largest entry."""


@dataclasses.dataclass(frozen=True)
class Factorization:
    """``P L D L' P'`` of a symmetric matrix (Bunch & Kaufman 1977), as LAPACK holds it.

    Attributes:
        factors: ``L`` and ``D``, ``[k, k]``.
        pivots: The permutation and the sizes of the blocks of ``D``, ``[k]``.
        positive: Number of positive eigenvalues, by Sylvester's law from ``D``.
        negative: Number of negative eigenvalues.
        zero: Number of those that are zero to rounding.
    """

    factors: Tensor
    pivots: Tensor
    positive: int
    negative: int
    zero: int

    def solve(self, b: Tensor) -> Tensor:
        """Return the solution for a right-hand side ``[k]``."""
        return torch.linalg.ldl_solve(self.factors, self.pivots, b[:, None])[:, 0]


def equilibrate(matrix: Tensor, sweeps: int = 5) -> Tensor:
    """Return positive factors ``d``, ``[k]``, for which the rows of ``d_i A_ij d_j`` have largest entries near 1.

    Source: D. Ruiz, *A scaling algorithm to equilibrate both rows and columns norms in matrices*, 2001. Inertia does
    not change by it, but which pivots are zero to rounding becomes a fair question. Rows of zeros are left alone.
    """
    scale = matrix.new_ones(matrix.shape[0])
    for _ in range(sweeps):
        largest = (matrix * scale).abs().amax(1) * scale if matrix.numel() else scale
        scale = scale / torch.where(largest > 0, largest, 1.0).sqrt()
    return scale


def factorize(matrix: Tensor) -> Factorization | None:
    """Factorize a dense symmetric matrix ``[k, k]``; ``None`` when it holds what is not finite."""
    k = matrix.shape[0]
    if k == 0:
        return Factorization(matrix, torch.zeros(0, dtype=torch.int32), 0, 0, 0)
    if not bool(torch.isfinite(matrix).all()):
        return None
    factors, pivots, _ = torch.linalg.ldl_factor_ex(matrix)
    single = pivots > 0  # LAPACK marks the two rows of a 2x2 block by negative pivots
    diagonal, (first,) = factors.diagonal(), torch.nonzero(~single, as_tuple=True)
    eigenvalues = torch.cat([diagonal[single], *_of_pairs(diagonal, factors, first[::2])])
    tiny = LOST * k * torch.finfo(matrix.dtype).eps * matrix.abs().max()
    positive, negative = int((eigenvalues > tiny).sum()), int((eigenvalues < -tiny).sum())
    zero = k - positive - negative
    return Factorization(factors, pivots, positive, negative, zero)


def _of_pairs(diagonal: Tensor, factors: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues of the 2x2 blocks of ``D`` that begin at some rows; rounding may make one of zeros."""
    a, b, c = diagonal[first], factors[first + 1, first], diagonal[first + 1]
    middle, radius = (a + c) / 2, torch.hypot((a - c) / 2, b)
    return middle + radius, middle - radius
