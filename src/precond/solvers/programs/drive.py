"""The driver of nonlinear programs: runs an iteration until its residuals, recomputed, are small."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import Iterate, Program, ProgramIteration, Site, Status
from precond.programs.jacobians import largest_entries
from precond.programs.multipliers import least_squares_multipliers
from precond.solvers.asking import stops
from precond.solvers.progress_line import ProgressLine
from precond.solvers.smooth.minimize import Event

logger = logging.getLogger(__name__)

BEST_SHARE = 0.999
"""An iterate counts as progress when its residuals shrink to this share of the best so far."""
FALLEN = 1e12
"""An objective this many times below its starting scale, at a feasible point, is taken for unbounded."""
REFIT = 5
"""Feasible iterates in a row without stationarity after which multipliers that fit better are looked for."""
AHEAD = 1e-3
"""A finite bound counts as in the way of a fall if its variable moved by at least this share of the largest move."""
STILL = 20
"""Iterations in a row that move no variable by more than ten units in its last place that count so, too."""
PATIENCE = 500
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


def residuals(program: Program, iterate: Iterate, tol: float = math.inf) -> Residuals:
    """Recompute the residuals of the optimality conditions from first derivatives and multipliers.

    A distance to a bound below four units in the last place of the bound counts as none. An inequality with a steep
    gradient may have a multiplier that is small and yet decides: it is complementary if it also is with its function
    divided by the largest entry of that gradient, and the slack's force is the multiplier.

    Args:
        program: The oracle.
        iterate: The point and its multipliers.
        tol: Steep inequalities are looked at where everything else is within this.

    Returns:
        The residuals.
    """
    site, z = iterate.site, iterate.bound_multipliers
    gradient = site.stationarity(iterate.multipliers)
    outside = (program.lower - site.x).clamp(min=0) + (site.x - program.upper).clamp(min=0)
    feasibility = float(torch.linalg.vector_norm(torch.cat([site.constraints, outside])))
    if z is None:
        return Residuals(float(torch.linalg.vector_norm(gradient)), feasibility, 0.0)
    gradient = gradient - z
    stationarity = float(torch.linalg.vector_norm(gradient))
    complementarity = _gap(_distance(program, site.x, z), z)
    slacks = program.slacks
    if slacks is not None and max(stationarity, feasibility, complementarity) <= tol:
        steep = largest_entries(site.jacobian)[slacks].clamp(min=1)
        force = z + torch.cat([torch.zeros_like(z[len(slacks) :]), gradient[len(z) - len(slacks) :]])
        steep = torch.cat([torch.ones_like(z[len(slacks) :]), steep])
        complementarity = max(complementarity, _gap(_distance(program, site.x, force) / steep, force * steep))
    return Residuals(stationarity, feasibility, complementarity)


def _distance(program: Program, x: Tensor, z: Tensor) -> Tensor:
    """Return the distance to the bound that each multiplier belongs to, ``[n]``."""
    bound = torch.where(z > 0, program.lower, program.upper)
    distance = torch.where(z > 0, x - bound, bound - x).clamp(min=0)
    return torch.where(distance <= 4 * torch.finfo(z.dtype).eps * bound.abs(), 0.0, distance)


def _gap(distance: Tensor, z: Tensor) -> float:
    return float(torch.linalg.vector_norm(torch.where(z == 0, 0, torch.minimum(distance, z.abs()))))


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
        learned: Whether the Hessian was learned from first derivatives.
    """

    iterate: Iterate
    residuals: Residuals
    status: Status
    iterations: int
    history: list[float]
    facts: list[dict[str, float]]
    learned: bool = False


def run_program(
    program: Program,
    x0: Tensor,
    iteration: ProgramIteration,
    *,
    tol: float,
    max_iterations: int,
    callback: Callable[[Event], object] | None = None,
    observe: Callable[[Site], None] | None = None,
) -> ProgramOutcome:
    """Iterate from ``x0`` until every residual is at most ``tol``.

    Args:
        program: The oracle; its account is charged.
        x0: Starting point, ``[n]``.
        iteration: The method.
        tol: Bound on each residual.
        max_iterations: Limit on iterations.
        callback: Sees an `Event` after each iteration; a true answer stops the run. Its gradient is the Lagrangian's.
        observe: Sees every point.

    Returns:
        The outcome.
    """
    best: tuple[Iterate, Residuals, int] | None = None
    lowest: tuple[Iterate, Residuals] | None = None
    line = ProgressLine(tol, max_iterations)
    history: list[float] = []
    facts: list[dict[str, float]] = []
    status, count, start, degenerate, met, still = Status.STOPPED_STEPS, 0, 0.0, 0, False, 0
    before: Tensor | None = None
    try:
        for count, iterate in enumerate(iteration.iterate(program, x0, tol)):
            if observe is not None:
                observe(iterate.site)
            left = residuals(program, iterate, tol)
            if left.feasibility <= tol < left.worst:
                iterate, left = _released(program, iterate, left, tol)
            degenerate = degenerate + 1 if left.feasibility <= tol < left.stationarity else 0
            if degenerate and degenerate % REFIT == 0:
                iterate, left = _refitted(program, iterate, left, tol)
            history.append(left.worst)
            facts.append(iterate.facts)
            if best is None or left.worst < BEST_SHARE * best[1].worst:
                best = (iterate, left, count)
            line.see(count, left.worst)
            met = met or float(program.fitted(iterate.site.x, iterate.site.constraints)[1].norm()) <= tol
            if left.feasibility <= tol and (lowest is None or iterate.site.loss < lowest[0].site.loss):
                lowest = (iterate, left)
            if callback is not None and stops(callback, _event(program, iterate, left, count)):
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
            fallen = float(iterate.site.loss) < -FALLEN * max(1.0, abs(start)) and left.feasibility <= tol * scale
            if fallen and _falls_on(program, x0, iterate, tol):
                best, status = (iterate, left, count), Status.FAILED_UNBOUNDED
                break
            still = still + 1 if before is not None and _stays(before, iterate.site.x) else 0
            before = iterate.site.x
            if count - best[2] > PATIENCE or still > STILL:
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
    site = best[0].site
    if status.group == "failed" and not bool(torch.isfinite(site.loss) & torch.isfinite(site.constraints).all()):
        status = Status.FAILED_NON_FINITE
    if status is Status.FAILED_INFEASIBLE and met:
        status = Status.FAILED_STAGNATION  # the constraints can be met: a point that does was seen
    if status.group == "failed" and best[1].feasibility > tol and lowest is not None:
        best = (*lowest, count)  # of points that are no solution, one that meets the constraints is worth more
    return ProgramOutcome(best[0], best[1], status, count, history, facts)


def _stays(before: Tensor, x: Tensor) -> bool:
    """Whether rounding is all that an iteration has changed."""
    return bool(((x - before).abs() <= 10 * torch.finfo(x.dtype).eps * (1 + x.abs())).all())


def _released(program: Program, iterate: Iterate, left: Residuals, tol: float) -> tuple[Iterate, Residuals]:
    """Return the iterate without multipliers, if the objective alone is stationary there: for it no constraint counts.

    So it is with equations that are to be solved and nothing to be minimized.
    """
    site, z = iterate.site, iterate.bound_multipliers
    if not float(torch.linalg.vector_norm(site.gradient)) <= tol:
        return iterate, left
    nothing = None if z is None else torch.zeros_like(z)
    other = dataclasses.replace(
        iterate, multipliers=torch.zeros_like(iterate.multipliers), bound_multipliers=nothing
    )  # fmt: skip
    better = residuals(program, other, tol)
    return (other, better) if better.worst <= tol else (iterate, left)


def _refitted(program: Program, iterate: Iterate, left: Residuals, tol: float) -> tuple[Iterate, Residuals]:
    """Return the iterate with multipliers that fit it best, if they do so within the tolerance.

    Where the Jacobian loses its rank at the solution multipliers have no limit, and those of Newton's method lag.
    """
    site, z = iterate.site, iterate.bound_multipliers
    gradient = site.gradient if z is None else site.gradient - z
    fitting = least_squares_multipliers(site, gradient, math.inf)
    other = dataclasses.replace(iterate, multipliers=fitting)
    better = residuals(program, other, tol)
    return (other, better) if better.worst <= tol else (iterate, left)


def _falls_on(program: Program, x0: Tensor, iterate: Iterate, tol: float) -> bool:
    """Whether the objective goes on to fall a thousand times as far away, with no bound or constraint in the way."""
    site = iterate.site
    d, loss = site.x - x0, float(site.loss)
    ahead = torch.where(d < 0, program.lower, program.upper)
    if bool((torch.isfinite(ahead) & (d.abs() > AHEAD * d.abs().max())).any()):
        return False
    for reach in (10.0, 100.0, 1000.0):
        y = (x0 + reach * d).clamp(program.lower, program.upper)
        value, constraints = program.values(y)
        _, left = program.fitted(y, constraints)
        met = float(left.norm()) <= tol * max(1.0, float(y.abs().max()))
        if not (met and float(value) < 2 * loss):
            return False
        loss = float(value)
    return True


def _event(program: Program, iterate: Iterate, left: Residuals, count: int) -> Event:
    gradient = iterate.site.stationarity(iterate.multipliers)[None]
    return Event(count, iterate.site.x[None], float(iterate.site.loss), gradient, left.worst, program.work)
