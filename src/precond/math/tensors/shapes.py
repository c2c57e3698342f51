"""Shapes that fewer, longer axes serve better."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from precond.math.tensors.tiles import tile_sides


def modes_with_factor(
    dims: Sequence[int], max_dim: int, *, vectors: bool = True, one_sided: bool = False
) -> tuple[bool, ...]:
    """Return which axes get a factor of their own.

    Args:
        dims: Lengths of the axes.
        max_dim: Longer axes get none.
        vectors: Whether tensors with one axis get one.
        one_sided: Only the shortest axis gets one, the last of them where there are several.

    Returns:
        One answer per axis.
    """
    shortest = max(range(len(dims)), key=lambda mode: (-dims[mode], mode), default=0)
    return tuple(
        dim <= max_dim and (vectors or len(dims) > 1) and (mode == shortest or not one_sided)
        for mode, dim in enumerate(dims)
    )


def merge_last_dims(dims: Sequence[int], limit: int, fewest: int = 1) -> tuple[int, ...]:
    """Merge neighbouring axes from right to left while that leaves ``fewest`` axes; axes of length 1 vanish.

    Source: the published code of Distributed Shampoo (arXiv 2309.06497).

    Args:
        dims: Lengths of the axes, all positive.
        limit: Largest length to merge to; longer axes stay as they are.
        fewest: How many axes to keep where there are as many.

    Returns:
        The merged lengths, at least one; their product is that of ``dims``.
    """
    left = [dim for dim in dims if dim != 1] or [1]
    merged = [left.pop()]
    while left:
        dim = left.pop()
        if merged[0] * dim <= limit and len(merged) + len(left) + 1 > fewest:
            merged[0] *= dim
        else:
            merged.insert(0, dim)
    return tuple(merged)


def merge_dims(dims: Sequence[int], limit: int) -> tuple[int, ...]:
    """Merge neighbouring axes from left to right while their product stays within ``limit``; axes of length 1 vanish.

    Source: the published code of Anil et al. (arXiv 2002.09018).

    Args:
        dims: Lengths of the axes, all positive.
        limit: Largest length to merge to; longer axes stay as they are.

    Returns:
        The merged lengths, at least one; their product is that of ``dims``.
    """
    merged: list[int] = []
    product = 1
    for dim in dims:
        if product * dim <= limit:
            product *= dim
            continue
        if product > 1:
            merged.append(product)
        product = dim
    if product > 1 or not merged:
        merged.append(product)
    return tuple(merged)


def block_lengths(dims: Sequence[int], block: int | None) -> list[int]:
    """Return the lengths of axes once they are made of equal blocks no longer than ``block``; at most a few zeros more.

    A single axis is left as it is, and so are all of them if ``block`` is ``None``.
    """
    if len(dims) < 2 or block is None:
        return list(dims)
    return [count * side for count, side in tile_sides(dims, block)]


def factor_shapes(
    dims: Sequence[int], max_dim: int, *, block: int | None = None, vectors: bool = True, one_sided: bool = False
) -> list[tuple[int, ...] | None]:
    """Return the shape of the matrix of each axis, the batch not counted.

    Args:
        dims: Lengths of the axes.
        max_dim: Axes longer than this have no matrix.
        block: Longer axes have a block diagonal matrix, ``(blocks, side, side)``; if there is one axis it is whole.
        vectors: As for `modes_with_factor`.
        one_sided: As for `modes_with_factor`.

    Returns:
        ``(n, n)``, ``(blocks, side, side)`` or ``None`` for each axis.
    """
    kept = modes_with_factor(dims, max_dim, vectors=vectors, one_sided=one_sided)
    sides = tile_sides(dims, block) if block is not None and len(dims) > 1 else [(1, dim) for dim in dims]
    shapes = [(count, side, side) if count > 1 else (side, side) for count, side in sides]
    return [shape if keep else None for shape, keep in zip(shapes, kept, strict=True)]


def balanced_matrix(dims: Sequence[int]) -> tuple[tuple[int, ...], int, int]:
    """Return the order of axes, and rows and columns, of the matrix view whose two sides have the least squares.

    Matrices stay as they are, and vectors become rows; of equally good views the first is taken. Source: the published
    code of PSGD (arXiv 2402.04553).

    Args:
        dims: Lengths of the axes, without the batch.

    Returns:
        Axes in their order for `torch.permute`, and the two sides.
    """
    if len(dims) < 2:
        return tuple(range(len(dims))), 1, math.prod(dims)
    if len(dims) == 2:
        return (0, 1), dims[0], dims[1]
    best: tuple[int, tuple[int, ...], int, int] | None = None
    for count in range(1, len(dims)):
        for left in itertools.combinations(range(len(dims)), count):
            rows = math.prod(dims[i] for i in left)
            columns = math.prod(dims) // rows if rows else 0
            size = rows**2 + columns**2
            if best is None or size < best[0]:
                best = size, left + tuple(i for i in range(len(dims)) if i not in left), rows, columns
    assert best is not None
    return best[1:]
