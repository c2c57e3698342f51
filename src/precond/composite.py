"""Penalties for ``precond.minimize``: names of methods, starting points, and the certificate."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Builds,
    Certificate,
    Composite,
    CompositeIteration,
    IncompatibleError,
    Need,
    Objective,
    Penalty,
    Result,
    Spot,
    Status,
    Work,
)
from precond.losses.base import StructuredObjective
from precond.penalties import ByName, Zero
from precond.recipes.named import find_method
from precond.solvers.composite import run_composite
from precond.solvers.layout import Layout
from precond.solvers.repeated import repeated
from precond.solvers.smooth.forms import SmoothForm
from precond.solvers.smooth.minimize import Event
from precond.solvers.smooth.objectives import TorchObjective

logger = logging.getLogger(__name__)

MAX_ITERATIONS = 100_000
Make = Callable[[Work, bool], Objective]


def minimize_composite(
    form: SmoothForm,
    penalty: Penalty | Mapping[str, Penalty],
    method: str | CompositeIteration,
    *,
    tol: float,
    max_iterations: int | None,
    callback: Callable[[Event], object] | None,
) -> Result:
    """Minimize a smooth function plus a penalty; see ``precond.minimize``, which calls this.

    Args:
        form: The smooth function.
        penalty: The penalty, or penalties by name.
        method: Name or iteration.
        tol: Bound on the distance of ``-grad f`` to the subdifferential of the penalty.
        max_iterations: Limit on iterations.
        callback: Called after each iteration.

    Returns:
        The result; its certificate is recomputed from the problem.
    """
    start, make, give = form.start[0], form.objective, form.give
    penalty = _flat(penalty, form.layout)
    penalty.check(start.numel())
    work = Work()
    iteration, label, objective = _resolve(method, form, work)
    if iteration.separable and not penalty.separable:
        raise IncompatibleError(
            f"{label} needs a separable penalty, and {type(penalty).__name__} is none: "
            "use method='fista' or 'prox-newton'"
        )
    problem = Composite(make(work, Need.OPERATOR in iteration.needs) if objective is None else objective, penalty)
    watch = None
    if callback is not None:

        def watch(event: Event) -> object:
            return callback(
                dataclasses.replace(event, x=give(event.x[0].clone()), gradient=give(event.gradient[0].clone()))
            )

    outcome = run_composite(
        problem, _inside(penalty, start), iteration, tol=tol, callback=watch,
        max_iterations=MAX_ITERATIONS if max_iterations is None else max_iterations,
    )  # fmt: skip
    certificate, note = _certify(make, penalty, outcome.spot, tol)
    status = outcome.status
    if certificate.holds:
        status = Status.CONVERGED_STATIONARY
    elif status is Status.CONVERGED_STATIONARY:
        logger.info("the run claimed convergence, and the certificate does not hold: %s", certificate)
        status = Status.FAILED_STAGNATION
    return Result(
        form.finish(outcome.spot.x), status, certificate, work, outcome.iterations, label, outcome.history, note=note
    )


def _flat(penalty: Any, layout: Layout) -> Penalty:
    """Return the penalty of the flat vector."""
    if isinstance(penalty, Penalty):
        return penalty
    if isinstance(penalty, Mapping):
        if set(layout.shapes) == {""}:
            raise BadInputError("x0 is one tensor: give one penalty, not a dict of them")
        unknown = set(penalty) - set(layout.shapes)
        if unknown:
            raise BadInputError(f"no variable is named {sorted(unknown)[0]!r}; there are {', '.join(layout.shapes)}")
        wrong = [type(each).__name__ for each in penalty.values() if not isinstance(each, Penalty)]
        if not wrong:
            return ByName(tuple((math.prod(shape), penalty.get(name, Zero())) for name, shape in layout.shapes.items()))
        raise BadInputError(f"a penalty is of type {wrong[0]}: use one of precond.penalties, such as L1(0.1)")
    raise BadInputError(
        f"penalty must be one of precond.penalties, such as L1(0.1) or SCAD(0.1), or a dict of them by name, "
        f"not {type(penalty).__name__}"
    )


def _inside(penalty: Penalty, x: Tensor) -> Tensor:
    """Return a point in the domain of the penalty: ``x``, or the nearest one that its bounds allow."""
    if bool(torch.isfinite(penalty.value(x))):
        return x
    return penalty.prox(x, torch.finfo(x.dtype).tiny ** 0.5)


def _resolve(method: Any, form: SmoothForm, work: Work) -> tuple[CompositeIteration, str, Objective | None]:
    """Return the iteration, what the result says about it, and the oracle if it has learned something."""
    if isinstance(method, CompositeIteration):
        return method, type(method).__name__, None
    if not isinstance(method, str):
        raise IncompatibleError(
            f"{type(method).__name__} knows no penalty: use a name such as 'prox-newton', or a CompositeIteration"
        )
    name, label, objective = method, method, None
    if method == "auto":
        name, reason, objective = _choose(form, work)
        label = f"{name} ({reason})"
    return find_method(name, Builds.COMPOSITE).build(), label, objective


def _choose(form: SmoothForm, work: Work) -> tuple[str, str, Objective | None]:
    """Return the method for ``"auto"``, the reason, and the oracle if it has learned something; all is counted."""
    if not form.curvature:
        return "fista", "auto: there is no hessp", None
    if form.start.numel() == 0:
        return "fista", "auto: there are no variables", None
    try:
        objective = form.objective(work, True)
        if isinstance(objective, StructuredObjective):
            return "prox-newton", "auto: a loss with known structure", objective
        if isinstance(objective, TorchObjective):
            reason = "a regression" if objective.learn(form.start) else "Hessian products are at hand"
            return "prox-newton", f"auto: {reason}", objective
        objective.hessian(form.start).matvec(torch.zeros_like(form.start))
    except (RuntimeError, IncompatibleError) as error:  # no second derivatives, in torch's words or in ours
        logger.info("the Hessian cannot be had: %s", error)
        return "fista", "auto: fun cannot be differentiated twice", None
    return "prox-newton", "auto: Hessian products are at hand", None


def _certify(make: Make, penalty: Penalty, seen: Spot, tol: float) -> tuple[Certificate, str]:
    """Recompute the distance to stationarity from the problem, in float64 if its functions take it.

    Returns what there is to note, too.
    """
    problem, x = Composite(make(Work(), False), penalty), seen.x
    spot = None
    if x.dtype is not torch.float64:
        try:
            spot = problem.spot(x.double())
        except Exception:  # users' functions may hold float32 data and refuse a float64 point in any way
            logger.debug("the problem cannot be evaluated in float64; certified in %s", x.dtype)
    if spot is None:
        spot = problem.spot(x)
    extra = {
        "objective": float(spot.total), "loss": float(spot.loss), "support": float(penalty.support(spot.x).sum()),
    }  # fmt: skip
    precision = str(spot.gradient.dtype).removeprefix("torch.")
    found = repeated(
        spot.slack, seen.slack if x.dtype is spot.x.dtype else None, lambda: problem.spot(spot.x).slack, tol
    )
    quantity = f"distance of -grad f to the subdifferential ({precision})"
    return Certificate(quantity, found.norm, float(tol), extra), found.note
