"""Curves of runs as arrays: cleaned, thinned, and averaged over seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from precond.race.results.records import Run

Array = NDArray[np.float64]

AXES = ("step", "seconds", "gradients")
MOST_POINTS = 500


@dataclasses.dataclass(frozen=True)
class Band:
    """A mean over seeds on a common grid.

    Attributes:
        x: The grid, increasing, inside the range that every seed covers.
        mean: Mean over the seeds; geometric when the metric is read on a logarithmic axis.
        low: Smallest value of any seed.
        high: Largest value of any seed.
        count: Number of seeds.
    """

    x: Array
    mean: Array
    low: Array
    high: Array
    count: int


def curve(run: Run, axis: str) -> tuple[Array, Array]:
    """Return the finite points of a run's curve as ``(x, metric)``, with ``x`` strictly increasing."""
    x = np.array([np.nan if value is None else value for value in run.curve.get(axis, [])], dtype=np.float64)
    y = np.array([np.nan if value is None else value for value in run.curve.get("metric", [])], dtype=np.float64)
    length = min(len(x), len(y))
    x, y = x[:length], y[:length]
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if len(x) > 1:
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
        last = np.append(np.diff(x) > 0, True)  # of several points at one place the last one counts
        x, y = x[last], y[last]
    return x, y


def thin(length: int, most: int = MOST_POINTS) -> NDArray[np.intp]:
    """Return at most ``most`` indices into ``length`` points.

    Half are evenly spaced and half geometrically, so that the curve keeps its shape on linear and on logarithmic axes;
    the first and the last point are always among them.
    """
    if length <= most:
        return np.arange(length)
    even = np.linspace(0, length - 1, most // 2)
    geometric = np.geomspace(1, length, most - most // 2) - 1
    return np.unique(np.concatenate([even, geometric]).round().astype(np.intp))


def band(runs: Sequence[Run], axis: str, *, log: bool = False, most: int = MOST_POINTS) -> Band | None:
    """Average runs over the range that all of them cover, by linear interpolation; nothing is extrapolated.

    Args:
        runs: Runs of one contestant; those without a curve are left out.
        axis: Column of the curve to put on the x axis.
        log: Interpolate and average the logarithm (when every value is positive).
        most: Limit on the number of points.

    Returns:
        The band, or ``None`` when there is no curve or no range common to all.
    """
    curves = [(x, y) for x, y in (curve(run, axis) for run in runs) if len(x)]
    if not curves:
        return None
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if end < start:
        return None
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    grid = grid[(grid >= start) & (grid <= end)]
    grid = grid[thin(len(grid), most)]
    log = log and all((y > 0).all() for _, y in curves)
    values = np.stack([np.exp(np.interp(grid, x, np.log(y))) if log else np.interp(grid, x, y) for x, y in curves])
    mean = np.exp(np.log(values).mean(0)) if log else values.mean(0)
    return Band(grid, mean, values.min(0), values.max(0), len(curves))
