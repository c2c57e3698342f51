"""Which method ``precond.minimize`` runs: by name, as it was built, or by what the problem is like."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import torch

from precond.core import (
    BadInputError,
    Builds,
    Factor,
    IncompatibleError,
    Kind,
    Method,
    Need,
    Objective,
    Preconditioner,
    Recipe,
    Route,
    Work,
)
from precond.preconditioners.inverse_of import InverseOf, SquareRoot
from precond.preconditioners.lbfgs import LBFGS
from precond.recipes import registry
from precond.recipes.named import find_method
from precond.solvers.smooth.forms import SmoothForm
from precond.solvers.smooth.objectives import TorchObjective
from precond.solvers.smooth.sparse_objective import LEAST, SparseObjective

logger = logging.getLogger(__name__)

FACTORED = 2**26
"""Bytes up to which ``"auto"`` factors Hessians."""
REGRESSION = 2000
"""Variables up to which it factors those of regressions."""

WHOLE = 3
"""Products in whose time a whole Hessian of few variables is taken at every step."""

CHEAP = 2**21
"""Products of numbers that the Hessian of a regression may take to be assembled anew at every step."""

PAIRS, NUMBERS = 100, 2**20
"""Secant pairs that L-BFGS keeps where it was chosen, and the numbers of them from which on it keeps fewer."""

GRADIENTS = "lbfgs-diagonal"
"""The method for gradients alone."""

Chosen = tuple[Method, str, float, Objective]


def choose_method(
    method: str | Method, form: SmoothForm, lr: float | None, work: Work, inner: Preconditioner[Any] | None, tol: float
) -> Chosen:
    """Return the method, what the result says about it, the learning rate, and the oracle.

    Args:
        method: What the user asked for.
        form: The problem.
        lr: The learning rate that the user gave.
        work: The account to charge.
        inner: A preconditioner for the linear systems inside.
        tol: Bound on the norm of the gradient, beyond which methods chosen by name need not solve their systems.

    Returns:
        All of that.
    """
    if isinstance(method, Route):
        raise IncompatibleError("minimize has one flat vector and cannot route: pass one of the route's methods")
    if isinstance(method, Method):
        label = f"{type(method.step).__name__} + {type(method.preconditioner).__name__}"
        built, default = method, None
        objective = form.objective(work, Need.OPERATOR in built.needs)
    elif isinstance(method, str):
        name, label = method, method
        found: Objective | None = None
        if method == "auto":
            name, reason, found = _automatic(form, work, inner)
            label = f"{name} ({reason})"
        pairs = min(PAIRS, max(LBFGS.memory, NUMBERS // max(1, form.start.numel())))
        settings = {"memory": pairs} if method == "auto" and name == GRADIENTS else {}
        built, default = _named(name, settings)
        if isinstance(built.preconditioner, InverseOf) and isinstance(built.preconditioner.forcing, SquareRoot):
            forcing = dataclasses.replace(built.preconditioner.forcing, enough=tol / 4)
            built = dataclasses.replace(
                built, preconditioner=dataclasses.replace(built.preconditioner, forcing=forcing)
            )
        objective = form.objective(work, Need.OPERATOR in built.needs) if found is None else found
        if found is None and name in ("newton", "newton-cholesky") and isinstance(objective, TorchObjective):
            objective.learn(form.start)
    else:
        raise BadInputError(f"method must be a name or a Method, not {type(method).__name__}")
    if inner is not None:
        if not isinstance(built.preconditioner, InverseOf):
            raise IncompatibleError(
                f"{label} solves no linear systems that could be preconditioned: use method='newton-cg'"
            )
        built = dataclasses.replace(built, preconditioner=dataclasses.replace(built.preconditioner, inner=inner))
        label = f"{label}, {type(inner).__name__} inside"
    if Need.ENTRIES in built.needs and not objective.sparse:
        objective = SparseObjective.of(objective, form.start) or objective
    return built, label, _rate(built, lr, default), objective


def _named(name: str, settings: Mapping[str, Any]) -> tuple[Method, float | None]:
    """Return the method of a recipe, and its learning rate."""
    fitting = [other.name for other in registry.all_recipes().values() if _minimizes(other)]
    recipe = find_method(name, Builds.METHOD, fitting)
    built = recipe.build(**settings)
    if isinstance(built, Route):
        raise IncompatibleError(f"{name!r} routes parameters by shape; minimize has one flat vector: use 'lbfgs'")
    return built, recipe.lr


def _minimizes(recipe: Recipe) -> bool:
    residuals = recipe.family == "least-squares"
    return recipe.builds is Builds.METHOD and Kind.SMOOTH in recipe.runs_on and not residuals


def _automatic(form: SmoothForm, work: Work, inner: Preconditioner[Any] | None) -> tuple[str, str, Objective | None]:
    """Return the method for ``"auto"``, the reason, and the oracle if it has learned something; all is counted."""
    if not form.curvature:
        return GRADIENTS, "auto: there is no hessp", None
    objective = form.objective(work, True)
    assembles = False
    try:
        if isinstance(objective, TorchObjective):
            assembles = objective.learn(form.start)
        elif objective.assembles:
            assembles = True
        else:
            objective.hessian(form.start).matvec(torch.zeros_like(form.start))
    except (RuntimeError, IncompatibleError) as error:  # no second derivatives, in torch's words or in ours
        logger.info("the Hessian cannot be had: %s", error)
        return GRADIENTS, "auto: fun cannot be differentiated twice", None
    n = form.start.numel()
    if inner is None and assembles and objective.rows * n * n <= CHEAP:
        return "newton", "auto: a small regression", objective
    if inner is None and assembles and n <= REGRESSION:
        return "newton-cholesky", "auto: a regression whose Hessian takes one pass over the data", objective
    if inner is None and 0 < n <= LEAST and objective.hessian(form.start).price(n) <= WHOLE:
        return "newton", "auto: whole Hessians cost little more than products", objective
    if (
        inner is None
        and not assembles
        and n >= LEAST
        and (entries := SparseObjective.of(objective, form.start)) is not None
    ):
        return "sparse-newton", "auto: the Hessian seems to be sparse, and has its entries once that pays", entries
    if inner is None and n * n * form.start.element_size() <= FACTORED:
        return "newton-cholesky", "auto: Hessian products are at hand, and a factor fits", objective
    return "newton-cg", "auto: Hessian products are at hand", objective


def _rate(method: Method, lr: float | None, default: float | None) -> float:
    if not isinstance(method.step, Factor):
        if lr is not None:
            raise BadInputError("this method finds its own step: leave lr out")
        return 1.0
    rate = default if lr is None else lr
    if rate is None:
        raise BadInputError("this method takes a fixed learning rate: give lr, for example lr=1e-2")
    if not rate > 0:
        raise BadInputError(f"lr must be positive, not {lr}")
    return float(rate)
