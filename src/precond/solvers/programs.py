"""The driver of nonlinear programs: runs an iteration until its residuals, recomputed, are small."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import torch

from precond.core import Iterate, Program, ProgramIteration, Status
from precond.solvers.minimize import Event
from precond.solvers.progress_line import ProgressLine

logger = logging.getLogger(__name__)

BEST_SHARE = 0.999
"""An iterate counts as progress when its residuals shrink to this share of the best so far."""
FALLEN = 1e12
"""An objective this many times below its starting scale, at a feasible point, is taken for unbounded."""
PATIENCE = 200
"""Iterations without progress that count as stagnation."""


@dataclasses.dataclass(frozen=True)
class Residuals:
    """What is left of the optimality conditions, in Euclidean norms.

    Attributes:
        stationarity: ``||grad f + J' lambda - z||``.
        feasibility: ``||c||`` and the violation of bounds.
        complementarity: ``||min(distance to the bound, |z|)||`` over the bounded variables.
    """

    stationarity: float
    feasibility: float
    complementarity: float

    @property
    def worst(self) -> float:
        """The largest of the three; infinite where one is not a number."""
        values = (self.stationarity, self.feasibility, self.complementarity)
        return max(values) if all(value == value for value in values) else float("inf")


def residuals(program: Program, iterate: Iterate) -> Residuals:
    """Recompute the residuals of the optimality conditions from first derivatives and multipliers."""
    site, z = iterate.site, iterate.bound_multipliers
    gradient = site.stationarity(iterate.multipliers)
    outside = (program.lower - site.x).clamp(min=0) + (site.x - program.upper).clamp(min=0)
    complementarity = 0.0
    if z is not None:
        gradient = gradient - z
        distance = torch.where(z > 0, site.x - program.lower, program.upper - site.x)
        gap = torch.minimum(distance.clamp(min=0), z.abs())
        complementarity = float(torch.linalg.vector_norm(torch.where(z == 0, 0, gap)))
    feasibility = float(torch.linalg.vector_norm(torch.cat([site.constraints, outside])))
    return Residuals(float(torch.linalg.vector_norm(gradient)), feasibility, complementarity)


@dataclasses.dataclass(frozen=True)
class ProgramOutcome:
    """What a run claims, before anything is certified.

    Attributes:
        iterate: The last iterate if it converged, otherwise the one with the smallest residuals, or the lowest that
            meets the constraints where that one does not.
        residuals: Its residuals.
        status: How the run ended.
        iterations: Iterations done.
        history: The largest residual at the start and after each iteration.
        facts: What each iteration said of itself.
    """

    iterate: Iterate
    residuals: Residuals
    status: Status
    iterations: int
    history: list[float]
    facts: list[dict[str, float]]


def run_program(
    program: Program,
    x0: torch.Tensor,
    iteration: ProgramIteration,
    *,
    tol: float,
    max_iterations: int,
    callback: Callable[[Event], object] | None = None,
) -> ProgramOutcome:
    """Iterate from ``x0`` until every residual is at most ``tol``.

    Args:
        program: The oracle; its account is charged.
        x0: Starting point, ``[n]``.
        iteration: The method.
        tol: Bound on each residual.
        max_iterations: Limit on iterations.
        callback: Sees an `Event` after each iteration; a true answer stops the run. Its gradient is the Lagrangian's.

    Returns:
        The outcome.
    """
    best: tuple[Iterate, Residuals, int] | None = None
    lowest: tuple[Iterate, Residuals] | None = None
    line = ProgressLine(tol, max_iterations)
    history: list[float] = []
    facts: list[dict[str, float]] = []
    status, count, start = Status.STOPPED_STEPS, 0, 0.0
    try:
        for count, iterate in enumerate(iteration.iterate(program, x0, tol)):
            left = residuals(program, iterate)
            history.append(left.worst)
            facts.append(iterate.facts)
            if best is None or left.worst < BEST_SHARE * best[1].worst:
                best = (iterate, left, count)
            line.see(count, left.worst)
            if left.feasibility <= tol and (lowest is None or iterate.site.loss < lowest[0].site.loss):
                lowest = (iterate, left)
            if callback is not None and callback(_event(program, iterate, left, count)):
                best, status = (iterate, left, count), Status.STOPPED_USER
                break
            if left.worst <= tol:
                best, status = (iterate, left, count), Status.CONVERGED_KKT
                break
            if iterate.failure is not None:
                status = iterate.failure
                break
            if not bool(torch.isfinite(iterate.site.x).all()):
                status = Status.FAILED_NON_FINITE
                break
            start = float(iterate.site.loss) if count == 0 else start
            scale = max(1.0, float(iterate.site.x.abs().max())) if iterate.site.x.numel() else 1.0
            if float(iterate.site.loss) < -FALLEN * max(1.0, abs(start)) and left.feasibility <= tol * scale:
                best, status = (iterate, left, count), Status.FAILED_UNBOUNDED
                break
            if count - best[2] > PATIENCE:
                status = Status.FAILED_STAGNATION
                break
            if count >= max_iterations:
                break
        else:
            status = Status.FAILED_STAGNATION
    except KeyboardInterrupt:
        status = Status.STOPPED_INTERRUPT
        if best is None:
            raise
    finally:
        line.end()
    assert best is not None, "an iteration yields where it starts"
    if status.group == "failed" and not bool(torch.isfinite(best[0].site.loss)):
        status = Status.FAILED_NON_FINITE
    if status.group == "failed" and best[1].feasibility > tol and lowest is not None:
        best = (*lowest, count)  # of points that are no solution, one that meets the constraints is worth more
    return ProgramOutcome(best[0], best[1], status, count, history, facts)


def _event(program: Program, iterate: Iterate, left: Residuals, count: int) -> Event:
    gradient = iterate.site.stationarity(iterate.multipliers)[None]
    return Event(count, iterate.site.x[None], float(iterate.site.loss), gradient, left.worst, program.work)
