"""Phases that spread the refreshes of many parameters evenly over the refresh interval."""

from __future__ import annotations

from collections.abc import Sequence


def refresh_cost(shape: Sequence[int]) -> float:
    """Return the relative cost of refreshing a parameter of this shape: the sum of the cubes of its sides."""
    return float(sum(side**3 for side in shape)) or 1.0


def phases(costs: Sequence[float], every: int) -> list[int]:
    """Return a phase in ``[0, every)`` for each cost, so that the phases carry nearly equal sums.

    Longest-processing-time rule (Graham 1969): the dearest goes first, each to the phase with the least so far. Of
    equal costs, neighbours then get equal phases, so that they are refreshed in one batch.
    """
    load = [0.0] * every
    result = [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        phase = min(range(every), key=load.__getitem__)
        load[phase] += costs[index]
        result[index] = phase
    alike: dict[float, list[int]] = {}
    for index, cost in enumerate(costs):
        alike.setdefault(cost, []).append(index)
    for indices in alike.values():
        for index, phase in zip(indices, sorted(result[i] for i in indices), strict=True):
            result[index] = phase
    return result
