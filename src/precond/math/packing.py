"""Triangular matrices without the half that is zero, batched."""

from __future__ import annotations

import torch
from torch import Tensor


def packed_shape(n: int) -> tuple[int, int]:
    """Return the shape of the rectangle that holds the lower triangle of an ``n x n`` matrix and nothing else."""
    return (n + 1, n // 2) if n % 2 == 0 else (n, (n + 1) // 2)


def pack_lower(matrices: Tensor, out: Tensor | None = None) -> Tensor:
    """Return lower triangles as rectangles with ``n (n + 1) / 2`` entries, by copies of whole blocks.

    The left half of the columns stays where it is; the triangle below the middle of the others is turned over and fills
    what is free above the diagonal.

    Source: F. Gustavson et al., "Rectangular full packed format for Cholesky's algorithm", ACM Trans. Math. Softw.
    37(2), 2010.

    Args:
        matrices: Shape ``[..., n, n]``; nothing above the diagonal is read.
        out: Where to write; a new tensor unless given.

    Returns:
        Shape ``[..., *packed_shape(n)]``.
    """
    n = matrices.shape[-1]
    half, even = (n + 1) // 2, 1 - n % 2
    packed = matrices.new_empty(*matrices.shape[:-2], *packed_shape(n)) if out is None else out
    packed[..., even:, :] = matrices[..., :half]
    free = packed[..., : n - half, 1 - even :]
    torch.add(free.tril(-1), matrices[..., half:, half:].tril().mT, out=free)
    return packed


def unpack_lower(packed: Tensor, n: int) -> Tensor:
    """Return matrices with the lower triangles that `pack_lower` packed, and whatever else above the diagonal.

    Args:
        packed: Shape ``[..., *packed_shape(n)]``.
        n: Side of the matrices.

    Returns:
        Shape ``[..., n, n]``; what is above the diagonal is finite where the triangle is.
    """
    half, even = (n + 1) // 2, 1 - n % 2
    matrices = packed.new_empty(*packed.shape[:-2], n, n)
    matrices[..., :half] = packed[..., even:, :]
    matrices[..., :half, half:] = 0.0
    matrices[..., half:, half:] = packed[..., : n - half, 1 - even :].mT
    return matrices


def mirror(matrices: Tensor) -> Tensor:
    """Return the symmetric matrices with the lower triangles of ``matrices``, shape ``[..., n, n]``."""
    lower = matrices.tril()
    return torch.add(lower, lower.tril(-1).mT)
