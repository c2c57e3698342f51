"""Runs of one method of smooth minimization until a certified minimum: saddle points are left on the way."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import Certificate, Factor, Method, Objective, Point, Status, Work
from precond.solvers.progress_line import ProgressLine
from precond.solvers.repeated import Repeated, repeated
from precond.solvers.smooth.curvature import BRIEF, FEWEST, Curvature, budget, escape, smallest_curvature
from precond.solvers.smooth.forms import SmoothForm
from precond.solvers.smooth.given_objective import GivenObjective
from precond.solvers.smooth.minimize import Event, Outcome, run
from precond.solvers.smooth.objectives import TorchObjective
from precond.solvers.smooth.trapezoids import Trapezoids
from precond.solvers.smooth.units import in_unit, times

logger = logging.getLogger(__name__)

ESCAPES = 10
"""Saddle points that a run may leave."""


class Descent:
    """Runs of one method, each from below the saddle point that the one before ended at.

    Args:
        form: The problem.
        objective: Its oracle.
        method: What to iterate.
        rate: Learning rate.
        tol: Bound on the norm of the gradient.
        callback: The user's.
        unit: What the oracle multiplies the objective by, a power of two.
        done: Iterations done before.

    Attributes:
        certificate: What was recomputed at the last point.
        note: What else was found out there.
        interrupted: The last point was not certified, as the user interrupted that.
        saddle: The last point is none of a minimum.
        slopes: What changes of the objective say of the user's gradients.
    """

    def __init__(
        self, form: SmoothForm, objective: Objective, method: Method, rate: float, tol: float,
        callback: Callable[[Event], object] | None, *, unit: float = 1.0, done: int = 0,
    ) -> None:  # fmt: skip
        self._form, self._objective, self._method, self._rate = form, objective, method, rate
        self._tol, self._callback, self._unit = tol, callback, unit
        self._done = done
        self.saddle, self.interrupted, self.note = False, False, ""
        self.slopes = Trapezoids()

    def run(self, limit: int) -> Outcome:
        """Descend until a minimum, or until there is a reason to stop; at most ``limit`` iterations."""
        line = ProgressLine(self._tol, limit)
        start, history = self._form.start, list[float]()
        seen = self.slopes.see if isinstance(self._objective, GivenObjective) else None
        try:
            for last in (*(False,) * ESCAPES, True):
                outcome = run(
                    self._objective, start, self._method, tol=self._tol * self._unit, lr=self._rate,
                    max_iterations=limit - self._done, callback=None if self._callback is None else self._watch,
                    progress=lambda count, norm: line.see(self._done + count, norm / self._unit), seen=seen,
                )  # fmt: skip
                history += [norm / self._unit for norm in outcome.history]
                self._done += outcome.iterations
                outcome = dataclasses.replace(
                    outcome, point=times(outcome.point, 1 / self._unit), iterations=self._done, history=history
                )
                lower = self._judge(outcome, last or self._done >= limit)
                if lower is None:
                    break
                start = lower
        finally:
            line.end()
        return outcome

    def _watch(self, event: Event) -> object:
        assert self._callback is not None
        give, unit = self._form.give, self._unit
        return self._callback(dataclasses.replace(
            event, iteration=self._done + event.iteration, x=give(event.x[0].clone()),
            loss=event.loss / unit, gradient=give(event.gradient[0] / unit), gradient_norm=event.gradient_norm / unit,
        ))  # fmt: skip

    def _judge(self, outcome: Outcome, last: bool) -> Tensor | None:
        """Certify a point; return where to go on if it is no minimum."""
        point = outcome.point
        learned = isinstance(self._objective, TorchObjective) and self._objective.affine
        try:
            self.certificate, found, oracle, precise = _certify(self._form, point, self._tol, curvature=not learned)
        except KeyboardInterrupt:
            extra = {"loss": float(point.loss)}
            self.certificate = Certificate("||grad f||_2, not recomputed", math.nan, float(self._tol), extra)
            self.interrupted, self.saddle = True, False
            return None
        self.saddle, self.note = False, found.note
        if outcome.status is Status.FAILED_NON_FINITE and isinstance(self._method.step, Factor):
            self.note = f"the steps may be too long for this function: take lr below {self._rate:g}"
        differences = isinstance(oracle, GivenObjective) and not oracle.exact
        if not self.certificate.holds or not point.x.numel() or (differences and found.spread):
            return None
        if self._unit != 1:
            oracle = in_unit(self._form, self._unit).objective(Work(), True)
        elif learned:
            oracle, precise = self._objective, point.x
        try:
            curvature = self._curvature(oracle, precise, differences, moved=outcome.iterations > 0)
        except KeyboardInterrupt:
            return None
        except Exception as error:  # users' functions may not be differentiable twice, in many ways
            logger.info("the curvature at the solution is not known: %s", error)
            return None
        self.certificate.extra.update({name: value / self._unit for name, value in curvature.told().items()})
        self.saddle = curvature.negative
        if not self.saddle or last or outcome.status is not Status.CONVERGED_GRADIENT:
            return None
        curvature = dataclasses.replace(curvature, direction=curvature.direction.to(point.x))
        below = escape(self._objective, times(point, self._unit), curvature)
        return None if below is None else below.x

    def _curvature(self, oracle: Objective, x: Tensor, differences: bool, *, moved: bool) -> Curvature:
        work, noise = self._objective.work, torch.finfo(x.dtype).eps ** (1 / 3 if differences else 1 / 2)
        floor = oracle.floor()
        if floor is not None and floor > 0:
            return Curvature.above(floor, x, noise)
        spent, oracle.work = oracle.work, work
        try:
            if differences:  # each product is an evaluation, of which a short run has few
                return smallest_curvature(
                    oracle.hessian(x), x, noise, budget(work.gradients, BRIEF if moved else FEWEST, FEWEST)
                )
            return smallest_curvature(oracle.hessian(x), x, noise, budget(work.hvps))
        finally:
            oracle.work = spent


def _certify(
    form: SmoothForm, seen: Point, tol: float, *, curvature: bool
) -> tuple[Certificate, Repeated, Objective, Tensor]:
    """Recompute the norm of the gradient from the problem, in float64 if its functions take it.

    Returns what repeated evaluations say, and the oracle and the point in that precision, too.
    """
    oracle, x = form.objective(Work(), curvature), seen.x
    point = None
    if x.dtype is not torch.float64:
        try:
            point = oracle.point(x.double())
        except Exception:  # users' functions may hold float32 data and refuse a float64 point in any way
            logger.debug("the problem cannot be evaluated in float64; certified in %s", x.dtype)
    if point is None:
        point = oracle.point(x)
    found = repeated(
        point.gradient, seen.gradient if x.dtype is point.x.dtype else None, lambda: oracle.point(point.x).gradient, tol
    )
    precision = str(point.gradient.dtype).removeprefix("torch.")
    quantity = f"||grad f||_2 ({precision})"
    return Certificate(quantity, found.norm, float(tol), {"loss": float(point.loss)}), found, oracle, point.x
