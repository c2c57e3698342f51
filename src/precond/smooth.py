"""The public ``precond.minimize``: forms of a problem, names of methods, and the certificate."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from precond.composite import minimize_composite
from precond.constrained import minimize_constrained
from precond.core import (
    BadInputError,
    Builds,
    CompositeIteration,
    IncompatibleError,
    Kind,
    Method,
    Penalty,
    Preconditioner,
    Problem,
    ProgramIteration,
    Result,
    Search,
    Status,
    Work,
)
from precond.recipes import registry
from precond.smooth_methods import choose_method
from precond.solvers.programs.slacked import Oracles
from precond.solvers.smooth.descent import Descent
from precond.solvers.smooth.forms import SmoothForm
from precond.solvers.smooth.given_objective import GivenObjective
from precond.solvers.smooth.implicit import with_gradient
from precond.solvers.smooth.minimize import Event, Outcome, check_tolerance
from precond.solvers.smooth.objectives import TorchObjective
from precond.solvers.smooth.suspicions import doubted, refuse_wrong_derivatives
from precond.solvers.smooth.units import better_unit, in_unit

__all__ = ["Event", "minimize"]

logger = logging.getLogger(__name__)

MAX_ITERATIONS, EACH = 10_000, 10
"""Iterations at most, and for each variable, whichever is more: valleys may be as long as there are variables."""


def minimize(
    fun: Callable[..., Any] | Problem,
    x0: Any = None,
    *,
    jac: Callable[..., Any] | bool | None = None,
    hessp: Callable[..., Any] | None = None,
    method: str | Method | ProgramIteration | CompositeIteration = "auto",
    constraints: Any = None,
    bounds: Any = None,
    penalty: Penalty | Mapping[str, Penalty] | None = None,
    tol: float = 1e-6,
    max_iterations: int | None = None,
    callback: Callable[[Event], object] | None = None,
    lr: float | None = None,
    args: Sequence[Any] = (),
    preconditioner: str | Preconditioner[Any] | None = None,
    check_gradients: bool = False,
) -> Result:
    """Minimize a smooth function until the Euclidean norm of its gradient is at most ``tol``.

    Six forms:

    * a torch function of a tensor ``x0``: derivatives by autograd, and Hessian products by double backward; ``x0`` may
      be an array, and then the solution is one (five evaluations, uncounted, tell whether ``fun`` is one of torch);
    * a torch function of a dict of tensors ``x0``;
    * ``minimize(loss, model)`` with a torch module: ``loss(model)`` returns the full loss, and the parameters that
      require gradients are optimized in place (``model.eval()`` first, if it holds dropout);
    * functions with their own derivatives, in NumPy (or torch, as ``x0`` is): ``fun(x)``, ``jac(x)`` and perhaps
      ``hessp(x, p)``; with ``jac=True``, ``fun`` returns the value and the gradient;
    * one of ``precond.losses`` (a linear model, a quadratic function), whose structure methods can use;
    * a smooth `Problem` of ``precond.problems``, whose own start is taken unless ``x0`` is given.

    A point where the gradient vanishes is left along negative curvature, if the Hessian has any; the certificate holds
    the smallest curvature that was found where it ended (a bound below it for large regressions of ``losses``).

    Args:
        fun: The objective.
        x0: Where to start; lists of numbers become a float64 tensor (an array when ``jac`` is given).
        jac: The gradient, or ``True``; ``None`` differentiates ``fun`` by autograd.
        hessp: Products with the Hessian, ``hessp(x, p)``, only with ``jac``.
        method: Name of a recipe (``precond methods`` lists them), a `Method`, or ``"auto"``: Newton's method where
            Hessian products are at hand (which one product finds out), with factored Hessians where they are sparse or
            small enough, and L-BFGS elsewhere; ``Result.method`` says why.
        constraints: A function ``c(x)`` whose values are to be zero, of torch operations if ``fun`` is; SciPy's
            ``LinearConstraint``, ``NonlinearConstraint`` or dictionaries; or several of these in a list. Inequalities
            get slack variables. With functions that have their own derivatives, ``hess`` of constraints is used beside
            ``hessp``, and large problems with sparse matrices are solved by sparse factorizations; where Hessians are
            missing, that of the Lagrangian is learned from gradients, and taken by their differences if need be.
        bounds: A ``scipy.optimize.Bounds``, or a pair (lower, upper) for each variable; ``None`` where there is none.
        penalty: What is added to ``fun``: one of ``precond.penalties`` (l1, SCAD, MCP, groups, a box), or a dict of
            them by the names of the variables. ``"auto"`` is then a proximal Newton method on working sets.
        tol: Absolute bound on the Euclidean norm of the gradient; with constraints, on each residual of the optimality
            conditions: of the Lagrangian's gradient, the constraints, and complementarity; with a penalty, on the
            distance of ``-grad fun`` to its subdifferential.
        max_iterations: Largest number of iterations; ``None`` means 10 000, or ten for each variable if
                that is more; with a penalty 100 000.
        callback: Called with an `Event` at the start and after each iteration; a true return value stops the run.
        lr: Learning rate of first-order methods; ``None`` takes the recipe's default.
        args: Further arguments of ``fun``, ``jac`` and ``hessp``. Where ``fun`` is a torch function and some of them
            require gradients, the solution is attached to their graph (implicit differentiation; without constraints).
        preconditioner: Of the linear systems inside of Newton's method, and of those of implicit differentiation: a
            `Preconditioner` or its name; one that works by products or secant pairs (``"nystrom"``, `LBFGS`).
        check_gradients: Compare ``jac`` and ``hessp``, and the ``jac`` of constraints, with differences at ``x0``
            first.

    Returns:
        The result in the form of ``x0``. Its certificate is computed anew at the returned point, in float64 when the
        functions allow it; that evaluation is not counted in ``work``, its Hessian products are.

    Raises:
        BadInputError: An argument cannot be used; the message says what would do.
        IncompatibleError: The method cannot run on a smooth objective.
        UnknownNameError: No method has that name.

    Example:
        >>> import torch, precond
        >>> result = precond.minimize(lambda x: ((x - 1) ** 2).sum() + (x**4).sum(), torch.zeros(3).double())
        >>> result.converged
        True
    """
    check_tolerance(tol, max_iterations, callback)
    function, x0 = _of_problem(fun, x0)
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    wanted = [a for a in args if isinstance(a, Tensor) and a.requires_grad and torch.is_grad_enabled()]
    fixed = tuple(a.detach() if isinstance(a, Tensor) else a for a in args)
    form = SmoothForm.of(_bound(function, fixed), x0, _bound(jac, fixed), _bound(hessp, fixed))
    if wanted and (constraints is not None or bounds is not None or jac or isinstance(x0, (nn.Module, np.ndarray))):
        raise BadInputError(
            "args require gradients, which flow through minimizers of torch functions of tensors or dicts, without "
            "constraints: detach them"
        )
    if penalty is not None:
        _refuse_with_penalty(constraints is not None or bounds is not None, lr, preconditioner, wanted, method)
        return minimize_composite(
            form, penalty, method,  # type: ignore[arg-type]  # checked there
            tol=tol, max_iterations=max_iterations, callback=callback,
        )  # fmt: skip
    if isinstance(method, CompositeIteration):
        raise IncompatibleError(
            "this method is for problems with a penalty: give one, such as precond.penalties.Zero()"
        )
    if constraints is not None or bounds is not None:
        if lr is not None:
            raise BadInputError("methods for constraints find their own step: leave lr out")
        if isinstance(method, Method):
            raise IncompatibleError("this Method knows no constraints: use method='interior-point' or 'auto'")
        if preconditioner is not None:
            raise BadInputError("methods for constraints precondition their own systems: leave preconditioner out")
        if check_gradients and jac:
            refuse_wrong_derivatives(form, hessp is not None)
        return minimize_constrained(
            _oracles(form), constraints, bounds, method=method, tol=tol, max_iterations=max_iterations,
            callback=callback, check=check_gradients,
        )  # fmt: skip
    if isinstance(method, ProgramIteration):
        raise IncompatibleError("this method is for problems with constraints: use method='auto'")
    if check_gradients and jac:
        refuse_wrong_derivatives(form, hessp is not None)
    inner = _preconditioner(preconditioner)
    work = Work()
    limit = max(MAX_ITERATIONS, EACH * form.start.numel()) if max_iterations is None else max_iterations
    descent, outcome, name = _descend(form, method, lr, work, inner, tol, limit, callback)
    certificate, status, note = descent.certificate, outcome.status, descent.note
    if descent.interrupted:
        status = Status.STOPPED_INTERRUPT
    elif certificate.holds:
        status = Status.CONVERGED_SADDLE if descent.saddle else Status.CONVERGED_GRADIENT
    elif status is Status.CONVERGED_GRADIENT:
        logger.info("the run claimed convergence, and the certificate does not hold: %s", certificate)
        status = Status.FAILED_STAGNATION
    if jac and not note:
        status, note = doubted(
            form, outcome.point.x, status, certificate, tol, products=hessp is not None, agree=descent.slopes.agree
        )
    flat = outcome.point.x[0]
    if wanted:
        flat = with_gradient(flat, lambda x, *more: form.call(lambda v: function(v, *more), x), args, inner)
    return Result(
        form.finish(flat), status, certificate, work, outcome.iterations, name, outcome.history, note=note
    )  # fmt: skip


def _descend(
    form: SmoothForm, method: str | Method, lr: float | None, work: Work, inner: Preconditioner[Any] | None,
    tol: float, limit: int, callback: Callable[[Event], object] | None,
) -> tuple[Descent, Outcome, str]:  # fmt: skip
    """Run the method that was asked for, once more in another unit of the objective if that may be why it failed."""
    chosen, name, rate, objective = choose_method(method, form, lr, work, inner, tol)
    descent = Descent(form, objective, chosen, rate, tol, callback)
    outcome = descent.run(limit)
    unit = better_unit(outcome)
    if unit is None or not isinstance(chosen.step, Search):
        return descent, outcome, name
    logger.info("powers of the objective leave the range of numbers: the run goes on in units of %g", 1 / unit)
    rest, before = dataclasses.replace(form, start=outcome.point.x), outcome
    chosen, name, rate, objective = choose_method(method, in_unit(rest, unit), lr, work, inner, tol * unit)
    descent = Descent(rest, objective, chosen, rate, tol, callback, unit=unit, done=before.iterations)
    outcome = descent.run(limit)
    return descent, dataclasses.replace(outcome, history=before.history + outcome.history[1:]), name


def _refuse_with_penalty(constrained: bool, lr: Any, preconditioner: Any, wanted: list[Tensor], method: Any) -> None:
    """Raise where an argument does not go together with a penalty."""
    if constrained:
        raise BadInputError(
            "a penalty and constraints do not go together: write bounds as "
            "precond.penalties.Within(penalty, lower, upper)"
        )
    if lr is not None or preconditioner is not None:
        raise BadInputError("methods for penalties find their own step and metric: leave lr and preconditioner out")
    if wanted:
        raise BadInputError("gradients do not flow through minimizers with a penalty: detach args")
    if isinstance(method, (Method, ProgramIteration)):
        raise IncompatibleError(f"{type(method).__name__} knows no penalty: use method='auto'")


def _of_problem(fun: Any, x0: Any) -> tuple[Any, Any]:
    """Return function and starting point; those of a `Problem` where one was given."""
    if isinstance(fun, Problem):
        if fun.kind is not Kind.SMOOTH:
            raise BadInputError(f"{fun.name} is no smooth problem: minimize takes functions and smooth problems")
        instance = fun.build(0, torch.device("cpu"))  # type: ignore[attr-defined]  # smooth problems build
        return instance.fun, instance.x0 if x0 is None else x0
    if x0 is None:
        raise BadInputError("x0 is missing: say where to start")
    return fun, x0


def _bound(function: Any, args: tuple[Any, ...]) -> Any:
    """Return a function with its further arguments filled in."""
    return (lambda *given: function(*given, *args)) if args and callable(function) else function


def _oracles(form: SmoothForm) -> Oracles:
    """Return the functions for a problem with constraints."""
    objective = form.objective(Work(), False)
    if isinstance(objective, TorchObjective):
        return Oracles(form.start[0], objective.evaluate, None, form.give, form.call, form.finish)

    def gradient(x: Tensor) -> Tensor:
        return objective.slope(x) if isinstance(objective, GivenObjective) else objective.point(x[None]).gradient[0]

    def hessian(x: Tensor) -> Callable[[Tensor], Tensor]:
        products = objective.hessian(x[None])
        return lambda v: products.matvec(v[None])[0]

    return Oracles(
        form.start[0], lambda x: objective.value(x[None]), gradient, form.give, form.call, form.finish,
        hessian if form.curvature else None,
    )  # fmt: skip


def _preconditioner(given: str | Preconditioner[Any] | None) -> Preconditioner[Any] | None:
    """Return the preconditioner of inner systems that was asked for."""
    if given is None or isinstance(given, Preconditioner):
        return given
    if not isinstance(given, str):
        raise BadInputError(f"preconditioner must be a name or a Preconditioner, not {type(given).__name__}")
    recipe = registry.find(given)
    if recipe.builds is not Builds.PRECONDITIONER:
        raise IncompatibleError(f"{given!r} builds no preconditioner: use 'nystrom', or a Preconditioner")
    built: Preconditioner[Any] = recipe.build()
    return built
