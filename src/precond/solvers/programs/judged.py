"""What the end of a run for a nonlinear program is worth: the point within its bounds, certificate and curvature."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from precond.core import Certificate, Iterate, Program, Work
from precond.solvers.programs.by_torch import TorchProgram
from precond.solvers.programs.curvature import STEPS, tangent_curvature
from precond.solvers.programs.drive import ProgramOutcome, residuals
from precond.solvers.programs.given import GivenProgram
from precond.solvers.programs.slacked import Slacked
from precond.solvers.smooth.curvature import ASSEMBLED, Curvature

logger = logging.getLogger(__name__)


def judged(
    form: Slacked, program: Program, outcome: ProgramOutcome, tol: float
) -> tuple[Tensor, Certificate, Curvature | None]:
    """Return the point of a run within its bounds, its certificate, and the curvature there if that holds."""
    point, certificate = _certify(form, program, outcome.iterate, tol)
    return point, certificate, _curvature(program, outcome.iterate, tol) if certificate.holds else None


def _certify(form: Slacked, solved: Program, iterate: Iterate, tol: float) -> tuple[Tensor, Certificate]:
    """Return the point within its bounds and its certificate; as it is where only that meets the tolerance."""
    x = iterate.site.x
    inside = x.clamp(form.lower, form.upper)
    certificate = _certificate(form, solved, iterate, inside, tol)
    if not certificate.holds and not torch.equal(inside, x):
        other = _certificate(form, solved, iterate, x, tol)
        if other.holds:
            return x, other
    return inside, certificate


def _certificate(form: Slacked, solved: Program, iterate: Iterate, point: Tensor, tol: float) -> Certificate:
    """Recompute the residuals from the problem, with the slacks that fit best, in float64 if the functions take it."""
    for double in (True, False):
        y, multipliers, z = point, iterate.multipliers, iterate.bound_multipliers
        if double:
            y, multipliers = y.double(), multipliers.double()
            z = None if z is None else z.double()
        program = form.program(Work(), double=double)
        if isinstance(program, TorchProgram) and isinstance(solved, TorchProgram):
            program.share(solved)
        try:
            if program.slacks is not None:  # the distance of c(x) to its bounds is what counts, not the slack's value
                with torch.no_grad():
                    y, _ = program.fitted(y, form.constraints(y))
            site = program.site(y)
        except Exception:  # users' functions may refuse a float64 point in any way
            if not double:
                raise
            logger.debug("the problem cannot be evaluated in float64; certified in %s", iterate.site.x.dtype)
            continue
        left = residuals(program, Iterate(site, multipliers.to(site.gradient), z), tol)
        extra = {
            "stationarity": left.stationarity, "feasibility": left.feasibility,
            "complementarity": left.complementarity, "loss": float(site.loss),
        }  # fmt: skip
        precision = str(site.gradient.dtype).removeprefix("torch.")
        return Certificate(
            f"largest residual of the optimality conditions ({precision})", left.worst, float(tol), extra
        )
    raise AssertionError("the second round returns or raises")


def _curvature(program: Program, iterate: Iterate, tol: float) -> Curvature | None:
    """Return the smallest curvature along the constraints; ``None`` where it cannot be told.

    Multipliers are known to the tolerance at best: where the point is as good with none, what curves down by them alone
    is no evidence of a saddle.
    """
    if not iterate.site.x.numel():
        return None
    eps = torch.finfo(iterate.site.x.dtype).eps
    try:
        differences = isinstance(program, GivenProgram) and not program.exact
        noise = eps ** (0.25 if differences else 0.5)
        whole = STEPS if differences else ASSEMBLED  # products by differences cost a gradient each
        found = tangent_curvature(program, iterate, noise, whole)
        if found is not None and found.negative and iterate.multipliers.numel():
            without = Iterate(iterate.site, torch.zeros_like(iterate.multipliers), iterate.bound_multipliers)
            if residuals(program, without, tol).worst <= tol:
                return tangent_curvature(program, without, noise, whole)
        return found
    except KeyboardInterrupt:
        return None
    except Exception as error:  # users' functions may not be differentiable twice, in many ways
        logger.info("the curvature at the solution is not known: %s", error)
        return None
