"""Equal loads: which bin takes which job."""

from __future__ import annotations

from collections.abc import Sequence


def balanced(costs: Sequence[float], bins: int, load: Sequence[float] | None = None) -> list[int]:
    """Return a bin in ``[0, bins)`` for each cost, so that the bins carry nearly equal sums.

    Longest-processing-time rule (Graham 1969): the dearest goes first, each to the bin with the least so far. From
    empty bins the fullest one carries at most ``4/3 - 1/(3 bins)`` times what it would carry at best.

    Args:
        costs: What each job costs; equal costs are taken in their order.
        bins: Number of bins.
        load: What the bins carry already; nothing unless given.

    Returns:
        The bin of each job: the same wherever it is computed.
    """
    load = [0.0] * bins if load is None else list(load)
    result = [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        chosen = min(range(bins), key=load.__getitem__)
        load[chosen] += costs[index]
        result[index] = chosen
    return result
