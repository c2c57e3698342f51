"""QR decompositions that end where nothing but rounding errors is left."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.math.factors.orthogonal import PANEL, Panel, accumulated, reflect, reflect_by
from precond.math.machine.products import fast_products


def rounding(n: int, dtype: torch.dtype) -> float:
    """Return how long, beside the longest, a column of ``n`` entries may be that is nothing but rounding errors."""
    return 2.0 * n**0.5 * torch.finfo(dtype).eps


def revealing_qr(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``Q`` and ``R = Q^T A``, where columns that depend on those before them turn nothing.

    Such columns are, beside those before them, not longer than rounding errors, which would choose directions for
    ``Q``: two runs that differ by rounding would part. Reflections are made of the other columns only, so that ``Q``
    depends on these; where all that is left is as short, the decomposition ends, and what comes later of ``Q`` is what
    the reflections make of the identity. So matrices of low rank take less work, too.

    Args:
        matrix: Shape ``[n, n]``, longer columns first.

    Returns:
        ``Q`` and ``R``, shape ``[n, n]``. ``R`` is upper triangular, but for what is left of dependent columns.
    """
    n = matrix.shape[-1]
    rest = matrix.clone(memory_format=torch.contiguous_format)[None]
    least, longest, reached = rounding(n, matrix.dtype), 0.0, False
    panels: list[Panel] = []
    with fast_products(matrix, n * n * PANEL):
        for start in range(0, n, PANEL):
            end = min(start + PANEL, n)
            if reached and _longest(rest[0, start:, start:], longest) <= least:
                break
            columns = rest[:, start:, start:end]
            triangle, v, weighted = reflect(columns)
            lengths = triangle.diagonal(dim1=-2, dim2=-1).abs()
            longest = max(longest, lengths.max().item())
            dependent = lengths <= least * longest
            reached = bool(dependent.any())
            if reached:
                triangle, v, weighted = reflect(torch.where(dependent[:, None], 0.0, columns))
                reflect_by(v, weighted, columns)
                columns[:, end - start :].masked_fill_(~dependent[:, None], 0.0)
                columns[:, : end - start].masked_fill_(~dependent[:, None] & _below(columns), 0.0)
            else:
                columns.zero_()
                columns[:, : end - start] = triangle.triu_()
            if end < n:
                reflect_by(v, weighted, rest[:, start:, end:])
            panels.append((start, v, weighted))
    return accumulated(panels, rest)[0], rest[0]


def _longest(columns: Tensor, unit: float) -> float:
    """Return the length of the longest column in a unit, from squares that neither overflow nor vanish."""
    return (columns / unit).square().sum(0).amax().sqrt().item() if unit else 0.0


def _below(columns: Tensor) -> Tensor:
    """Return a mask of what lies below the diagonal of as many rows as there are columns."""
    k = columns.shape[-1]
    return torch.ones(k, k, dtype=torch.bool, device=columns.device).tril_(-1)
