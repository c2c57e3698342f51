"""Orders of points."""

from __future__ import annotations

from typing import Any

import torch

_group = 4096  # points that are compared with each other


def nearest_neighbours(points: Any) -> list[int]:
    """Return an order in which each point is followed by the nearest one that is left, starting with the first.

    More than 4096 points are first cut into groups of that many by their most varied coordinate; each group starts
    with the point nearest to the end of the one before.

    Args:
        points: Shape ``[n, ...]``; distances are Euclidean.

    Returns:
        The order, a permutation of ``0 .. n - 1``.
    """
    table = torch.as_tensor(points, dtype=torch.float64)
    n = len(table)
    table = table.reshape(n, -1)
    if n <= 2 or table.shape[1] == 0:
        return list(range(n))
    groups = torch.argsort(table[:, table.var(dim=0).argmax()], stable=True).split(_group) if n > _group else None
    order: list[int] = []
    for group in groups or [torch.arange(n)]:
        left = group.clone()
        here = int((table[left] - table[order[-1]]).norm(dim=1).argmin()) if order else 0
        while len(left):
            last = int(left[here])
            order.append(last)
            left = torch.cat([left[:here], left[here + 1 :]])
            if len(left):
                here = int((table[left] - table[last]).norm(dim=1).argmin())
    return order
