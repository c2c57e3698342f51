"""The public ``precond.minimize``: forms of a problem, names of methods, and the certificate."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from precond.composite import minimize_composite
from precond.constrained import Oracles, minimize_constrained
from precond.core import (
    BadInputError,
    Builds,
    Certificate,
    CompositeIteration,
    Factor,
    IncompatibleError,
    Kind,
    Method,
    Need,
    Objective,
    Penalty,
    ProgramIteration,
    Result,
    Route,
    Status,
    Work,
)
from precond.losses import Loss
from precond.recipes import registry
from precond.solvers.layout import Layout
from precond.solvers.minimize import Event, check_tolerance, run
from precond.solvers.objectives import GivenObjective, TorchObjective

__all__ = ["Event", "minimize"]

logger = logging.getLogger(__name__)

MAX_ITERATIONS = 10_000


def minimize(
    fun: Callable[..., Any],
    x0: Any,
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
) -> Result:
    """Minimize a smooth function until the Euclidean norm of its gradient is at most ``tol``.

    Five forms:

    * a torch function of a tensor ``x0``: derivatives by autograd, and Hessian products by double backward;
    * a torch function of a dict of tensors ``x0``;
    * ``minimize(loss, model)`` with a torch module: ``loss(model)`` returns the full loss, and the parameters that
      require gradients are optimized in place (``model.eval()`` first, if it holds dropout);
    * functions with their own derivatives, in NumPy (or torch, as ``x0`` is): ``fun(x)``, ``jac(x)`` and perhaps
      ``hessp(x, p)``; with ``jac=True``, ``fun`` returns the value and the gradient;
    * one of ``precond.losses`` (a linear model, a quadratic function), whose structure methods can use.

    Args:
        fun: The objective.
        x0: Where to start; lists of numbers become a float64 tensor (an array when ``jac`` is given).
        jac: The gradient, or ``True``; ``None`` differentiates ``fun`` by autograd.
        hessp: Products with the Hessian, ``hessp(x, p)``, only with ``jac``.
        method: Name of a recipe (``precond methods`` lists them), a `Method`, or ``"auto"``: Newton-CG where Hessian
            products are at hand (which one product finds out), L-BFGS elsewhere; ``Result.method`` says why.
        constraints: A function ``c(x)`` whose values are to be zero, of torch operations if ``fun`` is; SciPy's
            ``LinearConstraint``, ``NonlinearConstraint`` or dictionaries; or several of these in a list. Inequalities
            get slack variables.
        bounds: A ``scipy.optimize.Bounds``, or a pair (lower, upper) for each variable; ``None`` where there is none.
        penalty: What is added to ``fun``: one of ``precond.penalties`` (l1, SCAD, MCP, groups, a box), or a dict of them
            by the names of the variables. ``"auto"`` is then a proximal Newton method on working sets.
        tol: Absolute bound on the Euclidean norm of the gradient; with constraints, on each residual of the optimality
            conditions: of the Lagrangian's gradient, the constraints, and complementarity; with a penalty, on the
            distance of ``-grad fun`` to its subdifferential.
        max_iterations: Largest number of iterations; ``None`` means 10 000.
        callback: Called with an `Event` at the start and after each iteration; a true return value stops the run.
        lr: Learning rate of first-order methods; ``None`` takes the recipe's default.

    Returns:
        The result in the form of ``x0``. Its certificate is computed anew at the returned point, in float64 when the
        functions allow it; that evaluation is not counted in ``work``.

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
    check_tolerance(tol, max_iterations)
    form = _Form.of(fun, x0, jac, hessp)
    if penalty is not None:
        if lr is not None:
            raise BadInputError("methods for penalties find their own step: leave lr out")
        if constraints is not None or bounds is not None:
            raise BadInputError(
                "a penalty and constraints do not go together: write bounds as precond.penalties.Within(penalty, lower, upper)"
            )
        if isinstance(method, (Method, ProgramIteration)):
            raise IncompatibleError(f"{type(method).__name__} knows no penalty: use method='auto'")
        return minimize_composite(
            form.objective, form.start[0], form.layout, penalty, method=method, curvature=form.curvature, tol=tol,
            max_iterations=max_iterations, callback=callback, give=form.give, finish=form.finish,
        )  # fmt: skip
    if isinstance(method, CompositeIteration):
        raise IncompatibleError(f"{type(method).__name__} is for penalties: give one, for example penalties.Zero()")
    if constraints is not None or bounds is not None:
        if lr is not None:
            raise BadInputError("methods for constraints find their own step: leave lr out")
        if isinstance(method, Method):
            raise IncompatibleError("this Method knows no constraints: use method='interior-point' or 'auto'")
        return minimize_constrained(
            form.oracles(), constraints, bounds, method=method, tol=tol, max_iterations=max_iterations,
            callback=callback,
        )  # fmt: skip
    work = Work()
    chosen, name, rate = _resolve(method, form, lr, work)
    objective = form.objective(work, Need.OPERATOR in chosen.needs)
    watch = None
    if callback is not None:

        def watch(event: Event) -> object:
            return callback(
                dataclasses.replace(
                    event, x=form.give(event.x[0].clone()), gradient=form.give(event.gradient[0].clone())
                )
            )

    outcome = run(
        objective, form.start, chosen, tol=tol, lr=rate, callback=watch,
        max_iterations=MAX_ITERATIONS if max_iterations is None else max_iterations,
    )  # fmt: skip
    certificate = _certify(form, outcome.point.x, tol)
    status = outcome.status
    if certificate.holds:
        status = Status.CONVERGED_GRADIENT
    elif status is Status.CONVERGED_GRADIENT:
        logger.info("the run claimed convergence, and the certificate does not hold: %s", certificate)
        status = Status.FAILED_STAGNATION
    return Result(form.finish(outcome.point.x[0]), status, certificate, work, outcome.iterations, name, outcome.history)


@dataclasses.dataclass(frozen=True)
class _Form:
    """One of the forms that a problem may have.

    Attributes:
        start: The starting point, ``[1, n]``.
        give: Turns a flat vector ``[n]`` into what a user sees.
        finish: Turns the flat solution into what the result holds.
        objective: Makes the objective from an account and whether Hessians will be asked for.
        curvature: Hessian products cost no differences of gradients.
        call: Calls a user's function of the variables at a flat vector.
        layout: Names and shapes of the variables.
    """

    start: Tensor
    give: Callable[[Tensor], Any]
    finish: Callable[[Tensor], Any]
    objective: Callable[[Work, bool], Objective]
    curvature: bool
    call: Callable[[Callable[..., Any], Tensor], Any]
    layout: Layout

    def oracles(self) -> Oracles:
        """Return the functions for a problem with constraints."""
        objective = self.objective(Work(), False)
        if isinstance(objective, TorchObjective):
            return Oracles(self.start[0], objective.evaluate, None, self.give, self.call, self.finish)

        def gradient(x: Tensor) -> Tensor:
            return objective.point(x[None]).gradient[0]

        return Oracles(self.start[0], lambda x: objective.value(x[None]), gradient, self.give, self.call, self.finish)

    @classmethod
    def of(cls, fun: Any, x0: Any, jac: Any, hessp: Any) -> _Form:
        if not callable(fun):
            raise BadInputError(f"fun must be callable, not {type(fun).__name__}")
        if hessp is not None and not jac:
            raise BadInputError("hessp needs jac, too: give both, or neither with a torch function")
        if isinstance(fun, Loss):
            return cls._structured(fun, x0, jac)
        if isinstance(x0, nn.Module):
            return cls._module(fun, x0, jac)
        if isinstance(x0, Mapping):
            if jac:
                raise BadInputError("jac works on one vector: pass x0 as a vector, or leave jac out with a dict")
            return cls._torch(fun, dict(x0))
        if jac is None or jac is False:
            if isinstance(x0, np.ndarray):
                raise BadInputError(
                    "x0 is a NumPy array and jac is missing: give jac, "
                    "or write fun with torch operations and pass torch.from_numpy(x0)"
                )
            return cls._torch(fun, x0 if isinstance(x0, Tensor) else torch.from_numpy(_array(x0)))
        return cls._given(fun, x0, jac, hessp)

    @classmethod
    def _torch(cls, fun: Any, x0: Any) -> _Form:
        layout = Layout.of(x0)

        def objective(work: Work, curvature: bool) -> Objective:
            return TorchObjective(lambda flat: fun(layout.restore(flat)), curvature=curvature, work=work)

        def call(function: Callable[..., Any], flat: Tensor) -> Any:
            return function(layout.restore(flat))

        return cls(layout.flatten(x0)[None], layout.restore, layout.restore, objective, True, call, layout)

    @classmethod
    def _structured(cls, loss: Loss, x0: Any, jac: Any) -> _Form:
        if jac:
            raise BadInputError("this loss knows its own derivatives: leave jac out")
        if isinstance(x0, (Mapping, nn.Module)):
            raise BadInputError(f"this loss is of one vector of {loss.variables} variables: pass x0 as a vector")
        tensor = x0 if isinstance(x0, Tensor) else torch.from_numpy(_array(x0))
        Layout.of(tensor)  # refuses what cannot be optimized
        if tensor.numel() != loss.variables:
            raise BadInputError(f"x0 has {tensor.numel()} entries and the loss has {loss.variables} variables")
        layout = Layout.of(tensor.to(loss.dtype))

        def give(flat: Tensor) -> Any:
            shaped = layout.named(flat)[""]
            return shaped.numpy() if isinstance(x0, np.ndarray) else shaped

        def objective(work: Work, curvature: bool) -> Objective:
            return loss.objective(work)

        def call(function: Callable[..., Any], flat: Tensor) -> Any:
            return function(layout.restore(flat))

        start = layout.flatten(tensor.to(loss.dtype))[None]
        return cls(start, give, give, objective, True, call, layout)

    @classmethod
    def _module(cls, loss: Any, model: nn.Module, jac: Any) -> _Form:
        if jac:
            raise BadInputError("a module's loss is differentiated by autograd: leave jac out")
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not parameters:
            raise BadInputError("the module has no parameter that requires a gradient: nothing can be optimized")
        layout, holder = Layout.of(parameters), _Loss(model, loss)

        def evaluate(flat: Tensor) -> Any:
            swapped = {f"model.{name}": value for name, value in layout.named(flat).items()}
            return torch.func.functional_call(holder, swapped, ())

        def finish(flat: Tensor) -> nn.Module:
            with torch.no_grad():
                for name, value in layout.named(flat).items():
                    parameters[name].copy_(value)
            return model

        def objective(work: Work, curvature: bool) -> Objective:
            return TorchObjective(evaluate, curvature=curvature, work=work)

        def call(function: Callable[..., Any], flat: Tensor) -> Any:
            swapped = {f"model.{name}": value for name, value in layout.named(flat).items()}
            return torch.func.functional_call(_Loss(model, function), swapped, ())

        return cls(layout.flatten(parameters)[None], layout.restore, finish, objective, True, call, layout)

    @classmethod
    def _given(cls, fun: Any, x0: Any, jac: Any, hessp: Any) -> _Form:
        if jac is not True and not callable(jac):
            raise BadInputError(f"jac must be callable, True or None, not {jac!r}")
        tensor = x0 if isinstance(x0, Tensor) else torch.from_numpy(_array(x0))
        layout = Layout.of(tensor)

        def give(flat: Tensor) -> Any:
            shaped = layout.named(flat)[""]
            return shaped if isinstance(x0, Tensor) else shaped.numpy()

        def objective(work: Work, curvature: bool) -> Objective:
            return GivenObjective(fun, jac, hessp, give=give, work=work)

        def call(function: Callable[..., Any], flat: Tensor) -> Any:
            return function(give(flat.clone()))

        return cls(layout.flatten(tensor)[None], give, give, objective, hessp is not None, call, layout)


class _Loss(nn.Module):
    """A loss of a model as a module of its own, so that its parameters can be swapped for a moment."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self) -> Any:
        return self.loss(self.model)


def _array(x0: Any) -> np.ndarray:
    """Return an array, numbers and lists as float64; arrays keep their dtype."""
    try:
        array = np.array(x0) if isinstance(x0, (np.ndarray, np.generic)) else np.array(x0, dtype=np.float64)
        torch.from_numpy(np.empty(0, array.dtype))
    except (TypeError, ValueError) as error:
        raise BadInputError(f"x0 cannot be read as a vector of numbers ({error}): pass a tensor or an array") from error
    return array


def _resolve(method: str | Method, form: _Form, lr: float | None, work: Work) -> tuple[Method, str, float]:
    """Return the method, what the result says about it, and the learning rate."""
    if isinstance(method, Route):
        raise IncompatibleError("minimize has one flat vector and cannot route: pass one of the route's methods")
    if isinstance(method, Method):
        return method, type(method.preconditioner).__name__, _rate(method, lr, None)
    if not isinstance(method, str):
        raise BadInputError(f"method must be a name or a Method, not {type(method).__name__}")
    label = name = method
    if method == "auto":
        name, reason = _choose(form, work)
        label = f"{name} ({reason})"
    recipe = registry.find(name)
    if recipe.builds is not Builds.METHOD:
        fitting = ", ".join(
            other.name for other in registry.all_recipes().values()
            if other.builds is Builds.METHOD and Kind.SMOOTH in other.runs_on
        )  # fmt: skip
        raise IncompatibleError(f"{name!r} builds no method of minimization: use one of {fitting}")
    built = recipe.build()
    if isinstance(built, Route):
        raise IncompatibleError(f"{name!r} routes parameters by shape; minimize has one flat vector: use 'lbfgs'")
    return built, label, _rate(built, lr, recipe.lr)


def _choose(form: _Form, work: Work) -> tuple[str, str]:
    """Return the method for ``"auto"`` and the reason; asks for one Hessian product, which is counted."""
    if not form.curvature:
        return "lbfgs", "auto: there is no hessp"
    try:
        form.objective(work, True).hessian(form.start).matvec(torch.zeros_like(form.start))
    except (RuntimeError, NotImplementedError, IncompatibleError) as error:
        logger.info("the Hessian cannot be had: %s", error)
        return "lbfgs", "auto: fun cannot be differentiated twice"
    return "newton-cg", "auto: Hessian products are at hand"


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


def _certify(form: _Form, x: Tensor, tol: float) -> Certificate:
    """Recompute the norm of the gradient from the problem, in float64 if its functions take it."""
    point = None
    if x.dtype is not torch.float64:
        try:
            point = form.objective(Work(), False).point(x.double())
        except Exception:  # users' functions may hold float32 data and refuse a float64 point in any way
            logger.debug("the problem cannot be evaluated in float64; certified in %s", x.dtype)
    if point is None:
        point = form.objective(Work(), False).point(x)
    norm = float(point.gradient.double().norm())
    precision = str(point.gradient.dtype).removeprefix("torch.")
    return Certificate(f"||grad f||_2 ({precision})", norm, float(tol), {"loss": float(point.loss)})
