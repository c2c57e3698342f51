"""Cutting the tensors of a batch into equal tiles, and putting them together again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def tile_sides(dims: Sequence[int], size: int, longest: int | None = None) -> tuple[tuple[int, int], ...]:
    """Return for each axis the number of tiles and their length: as few and as even as ``size`` allows.

    The last tile of an axis overhangs by less than the number of tiles when the axis cannot be divided evenly.

    Args:
        dims: Lengths of the axes.
        size: Longest side of a tile.
        longest: Axes longer than this are not cut; ``None`` cuts all.

    Returns:
        Pairs.
    """
    counts = [1 if longest is not None and dim > longest else max(1, -(-dim // size)) for dim in dims]
    return tuple((count, -(-dim // count)) for dim, count in zip(dims, counts, strict=True))


def overhang(v: Tensor, dims: Sequence[int]) -> Tensor:
    """Return ``[batch, d_0, ...]`` with zeros behind each axis up to ``dims``; ``v`` itself if there are none."""
    margins = [length - dim for length, dim in zip(dims, v.shape[1:], strict=True)]
    if not any(margins):
        return v
    return torch.nn.functional.pad(v, [amount for margin in reversed(margins) for amount in (0, margin)])


def trim(v: Tensor, dims: Sequence[int]) -> Tensor:
    """Return ``[batch, ...]`` with only the first ``dims`` entries of each axis."""
    return v if tuple(v.shape[1:]) == tuple(dims) else v[(slice(None), *(slice(dim) for dim in dims))]


def to_tiles(v: Tensor, sides: Sequence[tuple[int, int]]) -> Tensor:
    """Cut ``[batch, d_0, ...]`` into ``[batch * tiles, s_0, ...]``, overhanging tiles filled with zeros."""
    v = overhang(v, [count * length for count, length in sides])
    cut = v.reshape(v.shape[0], *(number for side in sides for number in side))
    axes = range(1, 2 * len(sides) + 1)
    return cut.permute(0, *axes[::2], *axes[1::2]).reshape(-1, *(length for _, length in sides))


def from_tiles(tiles: Tensor, sides: Sequence[tuple[int, int]], shape: Sequence[int]) -> Tensor:
    """Put together what `to_tiles` cut out of a tensor of this shape, ``[batch, d_0, ...]``; overhang is left out."""
    cut = tiles.reshape(shape[0], *(count for count, _ in sides), *(length for _, length in sides))
    pairs = [axis for i in range(len(sides)) for axis in (1 + i, 1 + len(sides) + i)]
    whole = cut.permute(0, *pairs).reshape(shape[0], *(count * length for count, length in sides))
    return trim(whole, shape[1:])
