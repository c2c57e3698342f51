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
from precond.solvers.asking import stops
from precond.solvers.smooth.minimize import Event

logger = logging.getLogger(__name__)

PATIENCE = 2000
"""Iterations without a smaller measure that count as stagnation."""
LOOK = 10
"""Iterations without a smaller measure between two looks at the objective."""


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
    watch = _Watch(problem, tol)
    status = Status.STOPPED_STEPS
    try:
        for count, standing in enumerate(iteration.iterate(problem, x0, tol)):
            watch.see(standing)
            if callback is not None and stops(callback, _event(problem, standing, count)):
                status = Status.STOPPED_USER
            elif not watch.finite:
                status = Status.FAILED_NON_FINITE
            elif watch.converged():
                status = Status.CONVERGED_STATIONARY
            elif standing.failure is not None:
                status = standing.failure
            elif watch.unbounded():
                status = Status.FAILED_UNBOUNDED
            elif watch.idle >= PATIENCE:
                status = Status.FAILED_STAGNATION
            elif count < max_iterations:
                continue
            break
        else:
            status = Status.FAILED_STAGNATION
    except KeyboardInterrupt:
        status = Status.STOPPED_INTERRUPT
    problem.work.spend("total", time.perf_counter() - began)
    spot = watch.answer(x0, status is Status.CONVERGED_STATIONARY)
    return CompositeOutcome(spot, status, max(len(watch.history) - 1, 0), watch.history)


class _Watch:
    """What has been seen of a run.

    Args:
        problem: The oracle.
        tol: Bound on the measure.

    Attributes:
        history: All measures so far.
        idle: Points since the measure was last the smallest so far.
    """

    def __init__(self, problem: Composite, tol: float) -> None:
        self.history: list[float] = []
        self.idle = 0
        self._problem, self._tol, self._believed = problem, tol, tol
        self._last: Standing | None = None
        self._best: Standing | None = None
        self._first: Standing | None = None
        self._start = 0.0

    @property
    def finite(self) -> bool:
        """Whether the last point is."""
        standing = self._last
        return standing is not None and math.isfinite(standing.measure) and bool(torch.isfinite(standing.x).all())

    def see(self, standing: Standing) -> None:
        """Take note of one more point."""
        self.history.append(standing.measure)
        self._last = standing
        if not self.finite:
            return
        if self._best is None:
            self._first, self._start = standing, float(standing.spot().total)
        better = self._best is None or standing.measure < self._best.measure
        self.idle = 0 if better else self.idle + 1
        if better:
            self._best = standing

    def converged(self) -> bool:
        """Whether the measure is small, checked with a gradient."""
        standing = self._last
        if standing is None or standing.measure > self._believed:
            return False
        if standing.spot().measure <= self._tol:
            return True
        self._believed = min(self._believed, standing.measure) / 2 if standing.measure > 0 else self._tol
        return False

    def unbounded(self) -> bool:
        """Whether the objective has fallen beyond ``1 / eps`` of its starting scale; looked at now and then."""
        standing = self._last
        if standing is None or self.idle == 0 or self.idle % LOOK:
            return False
        level = max(1.0, abs(self._start)) / torch.finfo(standing.x.dtype).eps
        return float(_uncounted(self._problem, standing.spot).total) < -level

    def answer(self, x0: Tensor, converged: bool) -> Spot:
        """Return the last point if it converged; else the lowest of it, the first, and that of the least measure."""
        if self._last is None:
            return self._problem.spot(x0)
        if converged or self._best is None:
            return _uncounted(self._problem, self._last.spot)
        spots = [_again(self._problem, each) for each in (self._best, self._last, self._first) if each is not None]
        kept = [spot for spot in spots if math.isfinite(float(spot.total)) and math.isfinite(spot.measure)]
        return min(kept, key=lambda spot: float(spot.total)) if kept else spots[0]


def _again(problem: Composite, standing: Standing) -> Spot:
    return _uncounted(problem, lambda: problem.spot(standing.x))


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
