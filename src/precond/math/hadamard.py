"""The Walsh-Hadamard transform."""

from __future__ import annotations

import torch
from torch import Tensor

_radix = 16


def hadamard_transform(x: Tensor) -> Tensor:
    """Return ``H x`` for each column, with the Hadamard matrix ``H`` of entries 1 and -1 in natural order.

    Computed as a product of small Hadamard matrices along each digit of the row's number, ``n log n`` operations.

    Args:
        x: Shape ``[..., n, k]``, ``n`` a power of two.

    Returns:
        A new tensor of the same shape.
    """
    n, k = x.shape[-2:]
    if n & (n - 1) or n == 0:
        raise ValueError(f"the number of rows must be a power of two, not {n}")
    batch, out, stride = x.shape[:-2], x.clone(), 1
    while stride < n:
        radix = min(_radix, n // stride)
        digits = out.reshape(*batch, n // (radix * stride), radix, stride * k)
        out = (hadamard_matrix(radix, x) @ digits).reshape(*batch, n, k)
        stride *= radix
    return out


def hadamard_matrix(n: int, like: Tensor) -> Tensor:
    """Return the Hadamard matrix of a power of two, with the type and place of ``like``."""
    matrix = torch.ones(1, 1, dtype=like.dtype, device=like.device)
    while len(matrix) < n:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix
