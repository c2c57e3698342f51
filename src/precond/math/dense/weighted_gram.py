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
    rows = max(1, BLOCK // max(1, n * matrix.element_size()))
    total = None
    for first in range(0, m, rows):
        part = _rows(matrix, first, min(m, first + rows))
        found = _signed_square(part, weights if rows >= m else weights[first : first + rows])
        total = found if total is None else total.add_(found)
    return torch.zeros(n, n, dtype=torch.float64, device=matrix.device) if total is None else total


def _signed_square(part: Tensor, w: Tensor) -> Tensor:
    """Return ``R' diag(w) R`` in float64 from squares of rows with positive and with negative weights."""
    low = float(w.min())
    if not low < 0:
        return _square(part * w.sqrt().to(part.dtype)[:, None]).double()
    negative = w < 0
    scaled = part * w.abs().sqrt().to(part.dtype)[:, None]
    if bool(negative.all()):
        return -_square(scaled).double()
    return _square(scaled).double() - 2 * _square(scaled[negative]).double()


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
    if rows.is_cpu:
        array = rows.numpy()
        return torch.from_numpy(array.T @ array)
    return rows.mT @ rows
