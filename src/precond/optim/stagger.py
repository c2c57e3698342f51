"""What tensors cost, and phases that spread their refreshes evenly over the refresh interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from precond.core import Cadence
from precond.math.balance import balanced
from precond.math.tensors.tiles import tile_sides

TOGETHER = 2.0**18
"""Cost of a refresh below which tensors of a slab are refreshed together: calls cost more than what they do."""


def refresh_cost(shape: Sequence[int], block: int | None = None) -> float:
    """Return the relative cost of refreshing a parameter of this shape: the sum of the cubes of its sides.

    Args:
        shape: Its sides.
        block: Longer sides are refreshed in blocks no longer than this, each for the cube of its length.

    Returns:
        The cost, positive.
    """
    sides = [(1, side) for side in shape] if block is None else tile_sides(shape, block)
    return float(sum(count * side**3 for count, side in sides)) or 1.0


def step_cost(shape: Sequence[int], cadence: Cadence) -> float:
    """Return the relative cost of a step of a parameter of this shape: products with its sides, and its refreshes."""
    return math.prod(shape) * (1.0 + sum(shape)) + refresh_cost(shape, cadence.block) / cadence.every


def phases(costs: Sequence[float], every: int) -> list[int]:
    """Return a phase in ``[0, every)`` for each cost, so that the phases carry nearly equal sums.

    Of equal costs, neighbours get equal phases, so that they are refreshed in one batch.
    """
    result = balanced(costs, every)
    alike: dict[float, list[int]] = {}
    for index, cost in enumerate(costs):
        alike.setdefault(cost, []).append(index)
    for indices in alike.values():
        for index, phase in zip(indices, sorted(result[i] for i in indices), strict=True):
            result[index] = phase
    return result
