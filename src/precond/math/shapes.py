"""Shapes that fewer, longer axes serve better."""

from __future__ import annotations

from collections.abc import Sequence


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
