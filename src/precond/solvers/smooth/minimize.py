"""The driver of smooth minimization: one loop for line searches, regularized steps and fixed learning rates."""

from __future__ import annotations

import dataclasses
import logging
import math
import numbers
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError, Method, Objective, Point, Status, Work
from precond.math.machine.scalars import scalars
from precond.math.norms import whole_norm
from precond.solvers.asking import stops
from precond.solvers.smooth.stepping import stepper

logger = logging.getLogger(__name__)

PATIENCE = 30
"""Iterations of a search without a lower objective or a shorter gradient that count as stagnation."""


@dataclasses.dataclass(frozen=True)
class Event:
    """What a callback sees after each iteration; returning true stops the run.

    Attributes:
        iteration: Iterations so far; 0 is the starting point.
        x: The current point, in the user's form.
        loss: The objective there.
        gradient: The gradient there, in the user's form.
        gradient_norm: Its Euclidean norm.
        work: Work counted so far (live: copy what you keep).
    """

    iteration: int
    x: Any
    loss: float
    gradient: Any
    gradient_norm: float
    work: Work


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run claims, before anything is certified.

    Attributes:
        point: The last point if it converged, otherwise the best one seen.
        status: How the run ended.
        iterations: Iterations done.
        history: Norm of the gradient (or the measure asked for) at the start and after each iteration.
    """

    point: Point
    status: Status
    iterations: int
    history: list[float]


def run(
    objective: Objective,
    x0: Tensor,
    method: Method,
    *,
    tol: float,
    max_iterations: int,
    enough: float = 0.0,
    lr: float = 1.0,
    callback: Callable[[Event], object] | None = None,
    measure: Callable[[Point], float] | None = None,
    progress: Callable[[int, float], None] | None = None,
    seen: Callable[[Point], None] | None = None,
) -> Outcome:
    """Minimize from ``x0`` until the norm of the gradient, or another measure of it, is at most ``tol``.

    Args:
        objective: The oracle; its account is charged.
        x0: Starting point, shape ``[1, n]``.
        method: What to iterate.
        tol: Bound on the measure.
        max_iterations: Largest number of iterations.
        enough: A measure that will do where a search finds no step; it is not begun afresh there.
        lr: Learning rate of methods whose step rule is a factor; searches ignore it.
        callback: Called with an `Event` at the start and after each iteration.
        measure: What ``tol`` bounds and the history holds; ``None`` means the Euclidean norm of the gradient.
        progress: Told the number of iterations and the measure, at the start and after each iteration.
        seen: Told the point, then.

    Returns:
        What the run claims.

    Raises:
        IncompatibleError: The method needs what a smooth objective does not provide.
    """
    steps = stepper(method, objective, x0, lr)
    began = time.perf_counter()
    stretch = steps.ahead(x0, tol, max_iterations) if callback is None and measure is None else None
    point, iteration, status = objective.point(x0) if stretch is None else stretch.first, 0, None
    watch = _Watch(point, measure)
    if stretch is not None and len(stretch.norms) > 1:
        watch.see(point)
        watch.history += stretch.norms[1:-1]
        point, iteration = stretch.last, len(stretch.norms) - 1
    try:
        while True:
            watch.see(point)
            stop = False
            if seen is not None:
                seen(point)
            if progress is not None:
                progress(iteration, watch.norm)
            if callback is not None and watch.finite:
                event = Event(iteration, point.x, watch.loss, point.gradient, watch.gradient_norm, objective.work)
                stop = stops(callback, event)
            if watch.norm <= tol:
                status = Status.CONVERGED_GRADIENT
            elif not watch.finite:
                status = Status.FAILED_NON_FINITE
            elif stop:
                status = Status.STOPPED_USER
            elif watch.unbounded:
                status = Status.FAILED_UNBOUNDED
            elif steps.monotone and watch.idle >= PATIENCE:
                status = Status.FAILED_STAGNATION
            elif iteration >= max_iterations:
                status = Status.STOPPED_STEPS
            else:
                advance = steps.advance(point, afresh=watch.norm > enough)
                status = advance.failure
            if status is not None:
                break
            point, iteration = advance.point, iteration + 1
    except KeyboardInterrupt:
        status = Status.STOPPED_INTERRUPT
    if steps.replaced:
        logger.info("%d directions did not descend and were replaced by steepest descent", steps.replaced)
    objective.work.spend("total", time.perf_counter() - began)
    best = point if status is Status.CONVERGED_GRADIENT else watch.best
    return Outcome(best, status, iteration, watch.history)


ROUGH, FLATTER = 1e5, 0.1
"""Losses that differ by this many times what rounding of their sum explains may differ by that of cancelling terms; the
gradient decides, if it is this share of the other."""


class _Watch:
    """What has been seen of a run.

    Args:
        start: The starting point.
        measure: What is to become small; ``None`` means the norm of the gradient.

    Attributes:
        best: The lowest point so far; of points that differ by rounding, the one with the shortest gradient, as of
            points that differ by little more, if it is much shorter.
        loss: The objective at the last point.
        gradient_norm: Norm of the gradient there.
        norm: The measure there.
        history: All measures so far.
        idle: Points since the objective or the norm was last the lowest so far.
    """

    def __init__(self, start: Point, measure: Callable[[Point], float] | None = None) -> None:
        self.best = start
        self.loss = self.norm = self.gradient_norm = math.nan
        self._measure = measure
        self.history: list[float] = []
        self.idle = 0
        self._eps = torch.finfo(start.x.dtype).eps
        self._best_loss = self._best_norm = self._lowest_loss = self._lowest_norm = math.inf
        self._bound = math.inf

    @property
    def finite(self) -> bool:
        """Whether the last point has a finite value and gradient."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm) and math.isfinite(self.norm)

    @property
    def unbounded(self) -> bool:
        """Whether the objective has fallen beyond ``1 / eps^2`` of its starting scale."""
        return self.loss < -self._bound

    def see(self, point: Point) -> None:
        """Take note of one more point."""
        self.loss, self.gradient_norm = scalars(point.loss, whole_norm(point.gradient))
        self.norm = self.gradient_norm if self._measure is None else self._measure(point)
        self.history.append(self.norm)
        if len(self.history) == 1:
            self._bound = max(1.0, abs(self.loss)) / self._eps**2
        if not self.finite:
            return
        self.idle = 0 if self.loss < self._lowest_loss or self.norm < self._lowest_norm else self.idle + 1
        self._lowest_loss, self._lowest_norm = min(self._lowest_loss, self.loss), min(self._lowest_norm, self.norm)
        noise = 10 * self._eps * abs(self._best_loss) if math.isfinite(self._best_loss) else 0.0
        fallen = self._best_loss - self.loss
        level = fallen >= -noise and self.norm <= self._best_norm
        flatter = fallen >= -ROUGH * noise and self.norm <= FLATTER * self._best_norm
        steeper = fallen <= ROUGH * noise and self.norm * FLATTER >= self._best_norm
        if level or flatter or (fallen > noise and not steeper):
            self.best, self._best_loss, self._best_norm = point, self.loss, self.norm


def check_tolerance(tol: float, max_iterations: int | None, callback: Any = None) -> None:
    """Refuse tolerances and limits that cannot be met or counted, and callbacks that cannot be called."""
    if isinstance(tol, bool) or not (isinstance(tol, numbers.Real) and tol >= 0):
        raise BadInputError(f"tol must be a number that is not negative, not {tol!r}")
    if max_iterations is not None and not (isinstance(max_iterations, numbers.Integral) and max_iterations >= 0):
        raise BadInputError(f"max_iterations must be a whole number that is not negative, not {max_iterations!r}")
    if callback is not None and not callable(callback):
        raise BadInputError(f"callback must be callable, not {type(callback).__name__}")
