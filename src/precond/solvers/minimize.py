"""The driver of smooth minimization: one loop for line searches, regularized steps and fixed learning rates."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.core import (
    Advance,
    BadInputError,
    Evidence,
    Factor,
    IncompatibleError,
    Method,
    Need,
    Objective,
    Point,
    Search,
    Status,
    Work,
)

logger = logging.getLogger(__name__)

PROVIDED = Need.GRADIENT | Need.PREVIOUS | Need.LOSS | Need.SECANT | Need.OPERATOR | Need.REPLAY
PATIENCE = 30
"""Iterations of a search without a lower objective or a shorter gradient that count as stagnation."""


@dataclasses.dataclass(frozen=True)
class Event:
    """What a callback sees after each iteration; returning ``True`` stops the run.

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
        history: Norm of the gradient at the start and after each iteration.
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
    lr: float = 1.0,
    callback: Callable[[Event], object] | None = None,
) -> Outcome:
    """Minimize from ``x0`` until the norm of the gradient is at most ``tol``.

    Args:
        objective: The oracle; its account is charged.
        x0: Starting point, shape ``[1, n]``.
        method: What to iterate.
        tol: Bound on the Euclidean norm of the gradient.
        max_iterations: Largest number of iterations.
        lr: Learning rate of methods whose step rule is a factor; searches ignore it.
        callback: Called with an `Event` at the start and after each iteration.

    Returns:
        What the run claims.

    Raises:
        IncompatibleError: The method needs what a smooth objective does not provide.
    """
    steps = _Steps(method, objective, lr)
    began = time.perf_counter()
    point = best = objective.point(x0)
    status, iteration, since = None, 0, 0
    history: list[float] = []
    loss = norm = best_loss = best_norm = math.nan
    bound = lowest = math.inf
    try:
        while True:
            loss, norm = torch.stack([point.loss.to(x0), point.gradient.norm()]).tolist()
            if iteration == 0:
                best_loss, best_norm = loss, norm
                bound = max(1.0, abs(loss)) / torch.finfo(x0.dtype).eps ** 2
            history.append(norm)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                status = Status.FAILED_NON_FINITE
                break
            noise = 10 * torch.finfo(x0.dtype).eps * abs(best_loss)
            since = 0 if loss < best_loss or norm < lowest else since + 1
            lowest = min(lowest, norm)
            if loss < best_loss - noise or (loss <= best_loss + noise and norm <= best_norm):
                best, best_loss, best_norm = point, loss, norm
            if norm <= tol:
                best, status = point, Status.CONVERGED_GRADIENT
            stop = callback is not None and callback(
                Event(iteration, point.x, loss, point.gradient, norm, objective.work)
            )
            if status is not None:
                break
            if stop is True:
                status = Status.STOPPED_USER
            elif loss < -bound:
                status = Status.FAILED_UNBOUNDED
            elif steps.searches and since >= PATIENCE:
                status = Status.FAILED_STAGNATION
            elif iteration >= max_iterations:
                status = Status.STOPPED_STEPS
            if status is not None:
                break
            advance = steps.advance(point)
            if advance.failure is not None:
                status = advance.failure
                break
            point, iteration = advance.point, iteration + 1
    except KeyboardInterrupt:
        status = Status.STOPPED_INTERRUPT
    if steps.replaced:
        logger.info("%d directions did not descend and were replaced by steepest descent", steps.replaced)
    objective.work.spend("total", time.perf_counter() - began)
    return Outcome(best, status, iteration, history)


class _Steps:
    """The mutable half of a run: states of the parts, and the evidence that they are fed.

    Args:
        method: What to iterate.
        objective: The oracle.
        lr: Learning rate of factor rules.
    """

    def __init__(self, method: Method, objective: Objective, lr: float) -> None:
        missing = method.needs & ~PROVIDED
        if missing:
            raise IncompatibleError(f"minimize cannot provide {missing}: use method='lbfgs' or 'newton-cg'")
        if not isinstance(method.step, (Search, Factor)):
            raise IncompatibleError(f"minimize cannot run the step rule {type(method.step).__name__}")
        self.searches = isinstance(method.step, Search)
        if self.searches and method.filters:
            raise IncompatibleError(f"a search follows the gradient itself: leave {', '.join(method.filters)} empty")
        if self.searches and method.step.shifts and not method.preconditioner.traits.shiftable:
            raise IncompatibleError(
                f"{type(method.step).__name__} shifts the system and {type(method.preconditioner).__name__} "
                "accepts no shift: use InverseOf(CG(), Identity())"
            )
        self.replaced = 0
        self._method, self._objective, self._lr = method, objective, lr
        self._needs = method.needs
        self._previous: Point | None = None
        self._like: Tensor | None = None
        self._step = 0
        self._young = True  # nothing has been accepted since the states were new

    def advance(self, point: Point) -> Advance:
        """Take one step; a search that fails is tried once more with fresh states."""
        if self._like is None:
            self._like = point.x
            self._reset()
        self._step += 1
        if not self.searches:
            return self._factor_step(point)
        advance = self._search_step(point)
        if advance.failure is not None and not self._young:
            logger.info("the step rule found no step after %d steps: starting it afresh", self._step)
            self._reset()
            advance = self._search_step(point)
        if advance.failure is None:
            self._previous, self._young = point, False
        return advance

    def _reset(self) -> None:
        method, like = self._method, self._like
        self._preconditioner = method.preconditioner.init(like)
        self._rule = method.step.init(like)
        self._filters = {slot: filter_.init(like) for slot, filter_ in method.filters.items()}
        self._previous, self._young = None, True

    def _evidence(self, point: Point) -> Evidence:
        needs, previous = self._needs, self._previous
        secant = None
        if Need.SECANT in needs and previous is not None:
            secant = (point.x - previous.x, point.gradient - previous.gradient)
        return Evidence(
            gradient=point.gradient,
            previous=point.gradient if previous is None else previous.gradient,
            loss=point.loss,
            secant=secant,
            operator=self._objective.hessian(point.x) if Need.OPERATOR in needs else None,
        )

    def _refresh(self) -> None:
        began = time.perf_counter()
        health = self._method.preconditioner.refresh(self._preconditioner)
        work = self._objective.work
        work.spend("refresh", time.perf_counter() - began)
        work.refreshes += 1
        work.refresh_failures += health.failures
        if health.failures:
            logger.warning("a refresh failed and the last good factor stays: %s", health.detail)

    def _apply(self, v: Tensor, shift: float = 0.0) -> Tensor:
        self._objective.work.applies += 1
        return self._method.preconditioner.apply(self._preconditioner, v, shift=shift)

    def _search_step(self, point: Point) -> Advance:
        method, gradient = self._method, point.gradient
        cadence = method.cadence
        method.preconditioner.observe(self._preconditioner, self._evidence(point))
        if not cadence.after and cadence.due(self._step):
            self._refresh()

        def direction(shift: float) -> Tensor:
            d = self._apply(gradient, shift).neg()
            slope = torch.linalg.vecdot(d, gradient)
            limit = -1e-12 * d.norm() * gradient.norm()
            if bool(slope <= limit) and bool(torch.isfinite(slope)):
                return d
            self.replaced += 1
            return -gradient

        advance = method.step.advance(self._rule, point, direction, self._objective)
        if cadence.after and cadence.due(self._step):
            self._refresh()
        return advance

    def _factor_step(self, point: Point) -> Advance:
        method, cadence = self._method, self._method.cadence
        evidence = self._evidence(point)
        signal = self._push("estimator", point.gradient, evidence)
        evidence = dataclasses.replace(evidence, gradient=signal)
        self._previous = point
        if self._step == 1 and cadence.prime:
            method.preconditioner.prime(self._preconditioner, evidence)
            return Advance(point)
        method.preconditioner.observe(self._preconditioner, evidence)
        if not cadence.after and cadence.due(self._step):
            self._refresh()
        d = self._push("smoothing", self._apply(self._push("momentum", signal, evidence)), evidence)
        factor = method.step.factor(self._rule, evidence, d)
        if cadence.after and cadence.due(self._step):
            self._refresh()
        return Advance(self._objective.point(point.x - self._lr * factor * d))

    def _push(self, slot: str, v: Tensor, evidence: Evidence) -> Tensor:
        filter_ = self._method.filters.get(slot)
        return v if filter_ is None else filter_.push(self._filters[slot], v, evidence)


def check_tolerance(tol: float, max_iterations: int | None) -> None:
    """Refuse tolerances and limits that cannot be met or counted."""
    if not (isinstance(tol, (int, float)) and tol >= 0):
        raise BadInputError(f"tol must be a number that is not negative, not {tol!r}")
    if max_iterations is not None and (not isinstance(max_iterations, int) or max_iterations < 0):
        raise BadInputError(f"max_iterations must be a whole number that is not negative, not {max_iterations!r}")
