"""Sums of weighted outer products of rows, ``A' diag(w) A``, in blocks of rows."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2**25
"""Bytes of one block of scaled rows."""


def weighted_gram(matrix: Tensor, weights: Tensor) -> Tensor:
    """Return ``A' diag(w) A``, summed in float64 over blocks of rows that are multiplied in the type of ``A``.

    Args:
        matrix: ``A``, shape ``[m, n]``, dense or sparse CSR.
        weights: ``w``, shape ``[m]``, of either sign.

    Returns:
        Shape ``[n, n]``, symmetric, float64.
    """
    m, n = matrix.shape
    total = torch.zeros(n, n, dtype=torch.float64, device=matrix.device)
    rows = max(1, BLOCK // max(1, n * matrix.element_size()))
    for first in range(0, m, rows):
        part, w = _rows(matrix, first, min(m, first + rows)), weights[first : first + rows]
        scaled, negative = part * w.abs().sqrt().to(part.dtype)[:, None], w < 0
        below = int(negative.sum())
        if below < len(w):
            total += _square(scaled)
        if below:
            rows_below = scaled if below == len(w) else scaled[negative]
            total -= _square(rows_below).double() * (1 if below == len(w) else 2)
    return total


def _rows(matrix: Tensor, first: int, last: int) -> Tensor:
    """Return some rows of a matrix, dense."""
    if matrix.layout is torch.strided:
        return matrix[first:last]
    starts = matrix.crow_indices()[first : last + 1]
    begin, end = int(starts[0]), int(starts[-1])
    some = torch.sparse_csr_tensor(
        starts - begin, matrix.col_indices()[begin:end], matrix.values()[begin:end], (last - first, matrix.shape[1])
    )
    return some.to_dense()


def _square(rows: Tensor) -> Tensor:
    """Return ``R' R``; on a CPU by NumPy, which computes one triangle only."""
    if rows.device.type == "cpu":
        array = rows.numpy()
        return torch.from_numpy(array.T @ array)
    return rows.mT @ rows
