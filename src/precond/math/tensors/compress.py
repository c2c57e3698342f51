"""Lossy descriptions of tensors that take little room: a few entries, or a few singular directions."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

_SHORT = 2**15
"""Entries that two bytes can number."""


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How a vector is cut into blocks of which the same number of entries is kept.

    Attributes:
        length: Entries of the vector.
        size: Entries of a block; the last one may be shorter.
        kept: Entries kept of each block.
    """

    length: int
    size: int
    kept: int

    @classmethod
    def of(cls, length: int, density: float, size: int | None) -> Blocks:
        """Return blocks of which the share ``density`` is kept, at least one entry each; one block unless given."""
        size = max(1, min(length, size or length))
        return cls(length, size, min(size, max(1, math.floor(density * size + 1e-9))))

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return -(-self.length // self.size)

    @property
    def dtype(self) -> torch.dtype:
        """The smallest integers that number the entries of a block."""
        return torch.int16 if self.size <= _SHORT else torch.int32 if self.size <= 2**31 else torch.int64

    def positions(self, places: Tensor) -> Tensor:
        """Return positions in the vector for places within blocks, ``[..., count, kept]``, both flattened."""
        starts = torch.arange(self.count, device=places.device)[:, None] * self.size
        return (places.to(torch.int64) + starts).flatten(-2)


def top_k(v: Tensor, blocks: Blocks) -> tuple[Tensor, Tensor]:
    """Return the places and values of the largest entries, by magnitude, of each block.

    Args:
        v: Vectors, ``[batch, n]``.
        blocks: How to cut them.

    Returns:
        Places within blocks, as small integers, and values, ``[batch, count, kept]`` both. A last block shorter than
        what is kept is filled up with zeros at its first place.
    """
    padding = blocks.count * blocks.size - blocks.length
    cut = torch.nn.functional.pad(v, (0, padding)).unflatten(1, (blocks.count, blocks.size))
    places = cut.abs().topk(blocks.kept, dim=-1, sorted=False).indices
    values = cut.gather(-1, places)
    if padding:
        beyond = places + torch.arange(blocks.count, device=v.device)[:, None] * blocks.size >= blocks.length
        places, values = places.masked_fill(beyond, 0), values.masked_fill(beyond, 0.0)
    return places.to(blocks.dtype), values


def spread(places: Tensor, values: Tensor, blocks: Blocks, dtype: torch.dtype) -> Tensor:
    """Return the vectors ``[batch, n]`` with these values at these places and zeros elsewhere."""
    dense = torch.zeros(values.shape[0], blocks.length, dtype=dtype, device=values.device)
    return dense.scatter_add_(1, blocks.positions(places), values.to(dtype).flatten(1))


def low_rank(matrices: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Take one step of subspace iteration, ``left = orth(A right)``, ``right = A^T left``: then ``A ~ left right^T``.

    Source: PowerSGD (arXiv 1905.13727). Exact where the rank of ``A`` is no more than that of ``right``.

    Args:
        matrices: ``A``, ``[batch, rows, columns]``.
        right: Start, ``[batch, columns, rank]`` with ``rank <= min(rows, columns)``.

    Returns:
        Left factors with orthonormal columns ``[batch, rows, rank]``, and right ones ``[batch, columns, rank]``.
    """
    left = torch.linalg.qr(torch.bmm(matrices, right)).Q
    return left, torch.bmm(matrices.mT, left)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return rows and columns of the matrix view of a tensor: its first axis, and all others."""
    return (shape[0] if shape else 1), math.prod(shape[1:])


def starting_factor(batch: int, columns: int, rank: int, like: Tensor) -> Tensor:
    """Return normal numbers that are the same in every call and for every member, ``[batch, columns, rank]``."""
    if like.is_meta:
        return torch.empty(batch, columns, rank, dtype=like.dtype, device=like.device)
    draw = torch.randn(columns, rank, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    return draw.to(like.device, like.dtype).expand(batch, columns, rank).clone()
