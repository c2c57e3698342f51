"""Triangular matrices without most of the half that is zero, batched."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

_STRIPS = 16


def packed_length(n: int) -> int:
    """Return how many entries hold the lower triangle of an ``n x n`` matrix: about ``(1 / 2 + 1 / 32) n^2``."""
    return sum((end - start) * end for start, end in _strips(n))


def pack_lower(matrices: Tensor, out: Tensor | None = None) -> Tensor:
    """Return lower triangles as vectors: strips of rows, each only as far as the diagonal.

    Strips keep whatever the small blocks on the diagonal hold above it. Halving these would save another three percent
    and cost many times the time: rows are copied as they lie in memory.

    Args:
        matrices: Shape ``[..., n, n]``.
        out: Where to write, in any dtype; a new tensor unless given.

    Returns:
        Shape ``[..., packed_length(n)]``.
    """
    n = matrices.shape[-1]
    packed = matrices.new_empty(*matrices.shape[:-2], packed_length(n)) if out is None else out
    place = 0
    for start, end in _strips(n):
        room = (end - start) * end
        packed[..., place : place + room].unflatten(-1, (end - start, end)).copy_(matrices[..., start:end, :end])
        place += room
    return packed


def unpack_lower(packed: Tensor, n: int, dtype: torch.dtype | None = None) -> Tensor:
    """Return matrices with the lower triangles that `pack_lower` packed.

    Args:
        packed: Shape ``[..., packed_length(n)]``.
        n: Side of the matrices.
        dtype: Of the matrices; that of ``packed`` unless given.

    Returns:
        Shape ``[..., n, n]``; above the diagonal there is zero, or what the strips hold.
    """
    matrices = packed.new_zeros(*packed.shape[:-1], n, n, dtype=dtype)
    place = 0
    for start, end in _strips(n):
        room = (end - start) * end
        matrices[..., start:end, :end] = packed[..., place : place + room].unflatten(-1, (end - start, end))
        place += room
    return matrices


def mirror(matrices: Tensor) -> Tensor:
    """Return the symmetric matrices with the lower triangles of ``matrices``, shape ``[..., n, n]``."""
    lower = matrices.tril()
    return torch.add(lower, lower.tril(-1).mT)


def _strips(n: int) -> list[tuple[int, int]]:
    count = min(_STRIPS, max(n, 1))
    return list(pairwise(n * i // count for i in range(count + 1)))
