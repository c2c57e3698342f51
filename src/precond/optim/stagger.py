"""What tensors cost, and phases that spread their refreshes evenly over the refresh interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from precond.core import Cadence
from precond.math.balance import balanced


def refresh_cost(shape: Sequence[int]) -> float:
    """Return the relative cost of refreshing a parameter of this shape: the sum of the cubes of its sides."""
    return float(sum(side**3 for side in shape)) or 1.0


def step_cost(shape: Sequence[int], cadence: Cadence) -> float:
    """Return the relative cost of a step of a parameter of this shape: products with its sides, and its refreshes."""
    return math.prod(shape) * (1.0 + sum(shape)) + refresh_cost(shape) / cadence.every


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
