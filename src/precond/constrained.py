"""Constraints for ``precond.minimize``: forms of a nonlinear program, names of methods, and the certificate."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Builds,
    IncompatibleError,
    Iterate,
    Program,
    ProgramIteration,
    Result,
    Status,
    Work,
)
from precond.programs.interior_point import InteriorPoint
from precond.programs.sketched_newton import SketchedNewton
from precond.recipes.named import find_method
from precond.solvers.consistent import Slopes, complaint_about_loss, complaint_about_rows
from precond.solvers.programs.by_torch import TorchProgram
from precond.solvers.programs.constraints import Block, fixing, read_bounds, read_constraints
from precond.solvers.programs.drive import ProgramOutcome, run_program
from precond.solvers.programs.given import GivenProgram
from precond.solvers.programs.judged import judged
from precond.solvers.programs.secant import Learning, learns
from precond.solvers.programs.slacked import SMALL, Oracles, Slacked
from precond.solvers.smooth.curvature import Curvature
from precond.solvers.smooth.minimize import Event

logger = logging.getLogger(__name__)

MAX_ITERATIONS = 3000
ESCAPE = 200
"""Iterations allowed to a run that leaves a saddle point."""
DENSE = 2**29
"""Bytes that a dense Jacobian of the automatic choice may take."""
FIXED = 1e-10
"""Bounds closer than this times their size fix a variable."""


def minimize_constrained(
    oracles: Oracles,
    constraints: Any,
    bounds: Any,
    *,
    method: str | ProgramIteration,
    tol: float,
    max_iterations: int | None,
    callback: Callable[[Event], object] | None,
    check: bool = False,
) -> Result:
    """Minimize under constraints; see ``precond.minimize``, which calls this.

    Inequalities get slack variables within bounds, ``c(x) - s = 0``; variables that their bounds fix become equations.
    """
    give = oracles.give
    lower, upper = read_bounds(bounds, oracles.start)
    values = (lower + upper) / 2
    fixed = torch.isfinite(upper - lower) & (upper - lower <= FIXED * lower.abs().clamp(min=1))
    if bool(fixed.any()):
        oracles = oracles.holding(fixed, values)
        lower, upper = torch.where(fixed, -torch.inf, lower), torch.where(fixed, torch.inf, upper)
    x0 = oracles.start
    n = x0.numel()
    blocks = (
        []
        if constraints is None
        else read_constraints(constraints, x0, oracles.call, by_differences=oracles.gradient is not None)
    )
    wrong = complaint_about_rows(blocks, x0) if check else None
    if wrong is not None:
        raise BadInputError(wrong)
    if bool(fixed.any()):
        blocks = [*(block.holding(fixed, values) for block in blocks), fixing(fixed, values)]
    form = Slacked.of(oracles, blocks, lower, upper)
    work = Work()
    program = form.program(work)
    iteration, label = _resolve(method, program, form.start)
    if program.bounded and not iteration.bounds:
        raise IncompatibleError(
            f"{label} knows no bounds, and inequalities need them: use method='interior-point' (or 'auto')"
        )
    watch = None
    if callback is not None:

        def watch(event: Event) -> object:
            return callback(dataclasses.replace(
                event, x=oracles.give(event.x[0, :n].clone()), gradient=give(event.gradient[0, :n].clone())
            ))  # fmt: skip

    slopes = Slopes()
    limit = MAX_ITERATIONS if max_iterations is None else max_iterations
    learning = None
    if learns(program):
        learning = Learning(program, form.start, iteration, tol, limit, watch, slopes.observe)
        outcome = learning.run()
    else:
        outcome = run_program(
            program, form.start, iteration, tol=tol, callback=watch, observe=slopes.observe, max_iterations=limit
        )
    point, certificate, curvature = judged(form, program, outcome, tol)
    if learning is not None and outcome.learned and curvature is not None and curvature.negative:
        outcome = learning.differ(outcome)
        point, certificate, curvature = judged(form, program, outcome, tol)
    if curvature is not None and curvature.negative and outcome.status is Status.CONVERGED_KKT:
        better = _escape(program, iteration, outcome, curvature, tol)
        if better is not None:
            outcome = better
            point, certificate, curvature = judged(form, program, outcome, tol)
    if outcome.learned:
        label += ", its Hessian learned from first derivatives"
    status = outcome.status
    if curvature is not None:
        certificate.extra.update(curvature.told())
    if status is Status.FAILED_INFEASIBLE:
        certificate.extra["slope of the violation"] = _slope(program, outcome.iterate)
    if certificate.holds:
        status = Status.CONVERGED_KKT
        if curvature is not None and curvature.negative:
            status = Status.CONVERGED_SADDLE
    elif status is Status.CONVERGED_KKT:
        logger.info("the run claimed convergence, and the certificate does not hold: %s", certificate)
        status = Status.FAILED_STAGNATION
    if bool(fixed.any()):
        point[:n] = torch.where(fixed, values.to(point), point[:n])
    failed = status.group == "failed"
    end = outcome.iterate.site.x[:n].clamp(form.lower[:n], form.upper[:n])
    note = _complaint(oracles, blocks, slopes, end, failed=failed and not check) or ""
    if note and status.group == "converged":
        status = Status.FAILED_GRADIENT
    return Result(
        oracles.finish(point[:n]), status, certificate, work, outcome.iterations,
        label, outcome.history, outcome.iterate.multipliers, note=note,
    )  # fmt: skip


def _complaint(oracles: Oracles, blocks: list[Block], slopes: Slopes, x: Tensor, *, failed: bool) -> str | None:
    """Return what is wrong with first derivatives at ``x``, where the steps of a run raise suspicion.

    After a run that failed the start is looked at, too, and the Jacobians that users wrote whether suspected or not.
    """
    by_differences = oracles.gradient is not None
    try:
        for point in (oracles.start, x) if failed else (x,):
            wrong = complaint_about_loss(oracles, point) if slopes.loss_suspect else None
            if wrong is None and slopes.suspects:
                wrong = complaint_about_rows(blocks, point, slopes.suspects, by_differences=by_differences)
            if wrong is None and failed:
                wrong = complaint_about_rows(blocks, point)
            if wrong is not None:
                return wrong
    except KeyboardInterrupt:  # the run is over, and its result stands
        logger.info("the comparison of derivatives with differences was interrupted")
    except Exception as error:  # users' functions may refuse a point in any way
        logger.info("derivatives cannot be compared with differences: %s", error)
    return None


def _escape(
    program: Program, iteration: ProgramIteration, outcome: ProgramOutcome, curvature: Curvature, tol: float
) -> ProgramOutcome | None:
    """Return where a run from a point beside a saddle ends, if that is a solution with a lower objective."""
    site = outcome.iterate.site
    reach = 0.1 * max(1.0, float(site.x.norm()))
    for sign in (1, -1):
        beside = (site.x + sign * reach * curvature.direction[0].to(site.x)).clamp(program.lower, program.upper)
        try:
            found = run_program(program, beside, iteration, tol=tol, max_iterations=ESCAPE)
        except KeyboardInterrupt:
            return None
        lower = float(found.iterate.site.loss) < float(site.loss) - 10 * tol * tol
        if found.status is Status.CONVERGED_KKT and lower:
            logger.info("left a saddle point along curvature %.2e", curvature.smallest)
            return dataclasses.replace(
                found, iterations=outcome.iterations + found.iterations, history=outcome.history + found.history
            )
    return None


def _slope(program: Program, iterate: Iterate) -> float:
    """Return ``||J'c|| / ||c||``, without what points out of bounds: where it is small nothing nearby violates less."""
    site = iterate.site
    pull = site.jacobian.rmatvec(site.constraints[None])[0]
    room = torch.where(pull > 0, site.x - program.lower, program.upper - site.x).clamp(min=0)
    return float(torch.minimum(pull.abs(), room).norm() / site.constraints.norm().clamp(min=1e-300))


def _resolve(method: str | ProgramIteration, program: Program, start: Tensor) -> tuple[ProgramIteration, str]:
    """Return the iteration, and what the result says about it; large programs are searched for sparsity."""
    side = program.variables + program.equations
    sparse = False
    looks = method in ("auto", "interior-point", "sketched-newton")
    if side > SMALL and (looks or isinstance(method, InteriorPoint | SketchedNewton)):
        sparse = isinstance(program, (TorchProgram, GivenProgram)) and program.compress(start)
    if isinstance(method, ProgramIteration):
        return method, type(method).__name__
    if not isinstance(method, str):
        raise BadInputError(
            f"with constraints, method must be a name or a ProgramIteration, not {type(method).__name__}"
        )
    name, label = method, method
    if method == "auto":
        name = "interior-point"
        if sparse:
            label = "interior-point (auto: a sparse Newton system)"
        elif side <= program.dense:
            label = "interior-point (auto: a Newton system that fits into memory)"
        elif program.bounded or program.equations * program.variables * 8 <= DENSE:
            label = "interior-point (auto: conjugate gradients on the null space of the constraints)"
        else:
            name, label = "sketched-newton", "sketched-newton (auto: equations alone, too many for a dense system)"
    return find_method(name, Builds.PROGRAM).build(), label
