"""The driver of composite problems: runs an iteration until the distance to stationarity is small."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import Composite, CompositeIteration, Spot, Standing, Status
from precond.solvers.minimize import Event

logger = logging.getLogger(__name__)

PATIENCE = 2000
"""Iterations without a lower objective or a smaller measure that count as stagnation."""


@dataclasses.dataclass(frozen=True)
class CompositeOutcome:
    """What a run claims, before anything is certified.

    Attributes:
        spot: The last point if it converged, otherwise the lowest one seen.
        status: How the run ended.
        iterations: Iterations done.
        history: The measure, as the iteration estimates it, at the start and after each iteration.
    """

    spot: Spot
    status: Status
    iterations: int
    history: list[float]


def run_composite(
    problem: Composite,
    x0: Tensor,
    iteration: CompositeIteration,
    *,
    tol: float,
    max_iterations: int,
    callback: Callable[[Event], object] | None = None,
) -> CompositeOutcome:
    """Iterate from ``x0`` until the slack is no longer than ``tol``.

    An iteration's own estimate is checked with a gradient before it is believed.

    Args:
        problem: The oracle; its account is charged.
        x0: Starting point in the domain of the penalty, ``[n]``.
        iteration: The method.
        tol: Bound on the length of the slack.
        max_iterations: Limit on iterations.
        callback: Sees an `Event` after each iteration, its gradient being the slack; a true answer stops the run. What
            is evaluated for it alone is not counted.

    Returns:
        The outcome.
    """
    began = time.perf_counter()
    history: list[float] = []
    last: Standing | None = None
    best: tuple[float, Tensor] | None = None
    status, count, idle, believed, smallest = Status.STOPPED_STEPS, 0, 0, tol, math.inf
    try:
        for count, standing in enumerate(iteration.iterate(problem, x0, tol)):
            last = standing
            history.append(standing.measure)
            if callback is not None and callback(_event(problem, standing, count)):
                status = Status.STOPPED_USER
                break
            if not (math.isfinite(standing.measure) and bool(torch.isfinite(standing.x).all())):
                status = Status.FAILED_NON_FINITE
                break
            if standing.measure <= believed:
                if standing.spot().measure <= tol:
                    status = Status.CONVERGED_STATIONARY
                    break
                believed = min(believed, standing.measure) / 2 if standing.measure > 0 else tol
            if standing.failure is not None:
                status = standing.failure
                break
            idle = 0 if standing.measure < smallest else idle + 1
            if standing.measure < smallest:
                smallest, best = standing.measure, (standing.measure, standing.x)
            if idle >= PATIENCE:
                status = Status.FAILED_STAGNATION
                break
            if count >= max_iterations:
                break
        else:
            status = Status.FAILED_STAGNATION
    except KeyboardInterrupt:
        status = Status.STOPPED_INTERRUPT
    problem.work.spend("total", time.perf_counter() - began)
    if last is None:
        return CompositeOutcome(problem.spot(x0), status, 0, history)
    good = math.isfinite(last.measure) and bool(torch.isfinite(last.x).all())
    if (good and (status is Status.CONVERGED_STATIONARY or last.measure <= smallest)) or best is None:
        return CompositeOutcome(_uncounted(problem, last.spot), status, count, history)
    x = best[1]
    return CompositeOutcome(_uncounted(problem, lambda: problem.spot(x)), status, count, history)


def _event(problem: Composite, standing: Standing, count: int) -> Event:
    spot = _uncounted(problem, standing.spot)
    return Event(count, spot.x[None], float(spot.total), spot.slack[None], spot.measure, problem.work)


def _uncounted(problem: Composite, spot: Callable[[], Spot]) -> Spot:
    """Return a spot and leave the account as it was."""
    counts = problem.work.counts()
    found = spot()
    for name, value in counts.items():
        setattr(problem.work, name, value)
    return found
