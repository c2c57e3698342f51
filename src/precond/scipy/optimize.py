"""``minimize`` with the signature of ``scipy.optimize``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import scipy.optimize
import scipy.optimize as theirs
import scipy.sparse
import scipy.sparse.linalg

import precond.smooth as smooth
from precond.core import BadInputError, IncompatibleError, Result, Status
from precond.solvers.smooth.minimize import Event

NEAREST = {
    "bfgs": "lbfgs", "l-bfgs-b": "lbfgs", "cg": "lbfgs", "tnc": "newton-cg", "newton-cg": "newton-cg",
    "trust-ncg": "trust-region-newton", "trust-krylov": "trust-region-newton", "trust-exact": "newton-cholesky",
    "dogleg": "newton-cholesky", "slsqp": "auto", "trust-constr": "auto",
}  # fmt: skip
"""The nearest methods of this library by SciPy's names, in lower case."""
DERIVATIVE_FREE = {"nelder-mead", "powell", "cobyla", "cobyqa"}
STATUS = {"converged": 0, "stopped": 1, "failed": 2}
CONSTR = {"converged": 1, "stopped": 0, "failed": 0}
"""The numbers of ``"trust-constr"``, whose 0 is the limit on iterations, and 3 a stop by the callback."""


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str | None = None,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> scipy.optimize.OptimizeResult:
    """Minimize a function of several variables, perhaps under constraints, by a method of this library.

    Args:
        fun: The objective, ``fun(x, *args) -> float``.
        x0: Where to start, one vector.
        args: Further arguments of ``fun``, ``jac``, ``hess`` and ``hessp``.
        method: Name of a method of this library (``"lbfgs"``, ``"newton-cg"``, ``"interior-point"``); the best for what
            is given unless named. SciPy's own names stand for the method of this library that is nearest; those that
            use no derivatives are refused.
        jac: The gradient, or ``True`` if ``fun`` returns it beside the value; by central differences unless given.
        hess: The Hessian, a matrix, dense or sparse, or a ``LinearOperator``; evaluated once at each point.
        hessp: Products with it, ``hessp(x, p, *args)``.
        bounds: As for SciPy.
        constraints: As for SciPy: dictionaries, ``LinearConstraint``, ``NonlinearConstraint``, or several in a list.
        tol: Absolute bound on the Euclidean norm of the gradient, or on each residual of the optimality conditions;
            1e-6 unless given, 1e-8 for ``"trust-constr"``.
        callback: Called with each ``x``, with ``intermediate_result=`` if that is its argument's name, or with ``x``
            and a state if it takes two arguments; may raise ``StopIteration``.
        options: ``maxiter``, ``disp`` to print a line at the end, and ``gtol`` in place of ``tol``; others are left
            alone with a warning.

    Returns:
        ``x``, ``fun``, ``jac``, ``success``, ``status`` (0 converged, 1 stopped, 2 failed; by ``"trust-constr"``, as
        for SciPy, 1 converged, 3 stopped by the callback, 0 otherwise), ``message``, ``nit``, ``nfev``, ``njev``,
        ``nhev``; ``success`` means that the certificate, recomputed from the problem, holds. Under
        constraints also ``constr_violation`` and ``optimality``, as for SciPy's ``trust-constr``.
    """
    args = args if isinstance(args, tuple) else (args,)
    given = dict(options or {})
    limit, show, gtol = given.pop("maxiter", None), given.pop("disp", False), given.pop("gtol", None)
    tol = gtol if tol is None else tol
    if isinstance(limit, float) and limit > 0:  # SciPy counts up to numbers that are not whole
        limit = None if math.isinf(limit) else math.ceil(limit)
    if given:
        warnings.warn(f"options without effect here: {', '.join(sorted(given))}", theirs.OptimizeWarning, stacklevel=2)
    name = _method(method, bounds is not None or bool(_listed(constraints)))
    start = vector(x0)
    both, slope = jac is True, derivative(jac)
    if not both and slope is None and isinstance(hess, str) and hess in DIFFERENCES:
        raise BadInputError(
            f"hess={hess!r} takes differences of the gradient, which is one of differences: give jac, or leave hess out"
        )
    constr = method is not None and method.lower() == "trust-constr"
    lower, upper = _box(bounds, len(start))

    def value(x: np.ndarray) -> float:
        answer = fun(x, *args)
        number = np.squeeze(answer[0] if both else answer)
        if number.ndim:
            raise BadInputError(f"fun returned shape {number.shape}: return one number")
        return float(number)

    def gradient(x: np.ndarray) -> np.ndarray:
        if both:
            return np.asarray(fun(x, *args)[1], dtype=float)
        if slope is not None:
            return np.asarray(slope(x, *args), dtype=float)
        return differences(lambda y: np.array([value(y)]), x, lower, upper)[0]

    product: Callable[[Any, Any], Any] | None = None
    if hessp is not None:

        def product(x: Any, p: Any) -> Any:
            return hessp(x, p, *args)
    elif callable(hess):
        product = _by_matrix(lambda x: hess(x, *args))
    limits = _listed(constraints)
    tol = (1e-8 if constr else 1e-6) if tol is None else tol
    result = smooth.minimize(
        value, start, jac=gradient, hessp=product, method=name, constraints=limits or None,
        bounds=bounds, tol=tol, max_iterations=limit, callback=watcher(callback),
    )  # fmt: skip
    answer = _answer(result, value(result.x), gradient(result.x), constr)
    if show:
        print(result.message)
    return answer


DIFFERENCES = ("2-point", "3-point", "cs")
"""SciPy's names of differences; each means those that are taken here."""


def _method(name: str | None, constrained: bool) -> str:
    """Return the name of a method of this library."""
    if name is None:
        return "auto"
    if name.lower() in DERIVATIVE_FREE:
        raise IncompatibleError(
            f"{name} uses no derivatives, and every method here does: leave `method` out (a missing jac is taken by "
            "differences), or call scipy.optimize.minimize"
        )
    known = NEAREST.get(name.lower())
    if known is None:
        return name
    return "auto" if constrained else known


def vector(x0: Any) -> np.ndarray:
    """Return a starting point as SciPy's functions take it, one vector of float64."""
    if np.iscomplexobj(x0):
        raise BadInputError("x0 is complex: pass its real and imaginary parts as one real vector")
    start = np.atleast_1d(np.asarray(x0, dtype=float))
    if start.ndim > 1:
        raise BadInputError(
            f"x0 has shape {start.shape}: pass one vector, or call precond.minimize, which takes any shape"
        )
    return start


def derivative(jac: Any) -> Callable[..., Any] | None:
    """Return a derivative if it is a function, ``None`` where differences are to be taken in its place."""
    if callable(jac):
        return cast("Callable[..., Any]", jac)
    if jac is None or isinstance(jac, (bool, np.bool_)) or jac in DIFFERENCES:
        return None
    raise BadInputError(f"jac must be a function or one of {', '.join(DIFFERENCES)}, not {jac!r}")


def differences(
    function: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    lower: np.ndarray | float = -np.inf,
    upper: np.ndarray | float = np.inf,
) -> np.ndarray:
    """Return the Jacobian ``[m, n]`` by differences of second order with increments ``eps^(1/3) max(|x_i|, 1)``.

    They are central where bounds leave room, one-sided elsewhere, so that the function is not called outside; outside
    they are those at the nearest point within. Of variables that bounds fix they are zero.
    """
    x = np.clip(x, lower, upper)
    steps = np.finfo(float).eps ** (1 / 3) * np.maximum(np.abs(x), 1.0)
    below, above = x - np.broadcast_to(lower, x.shape), np.broadcast_to(upper, x.shape) - x
    columns: list[np.ndarray] = []
    middle: np.ndarray | None = None
    for i, step in enumerate(steps):
        near, far = step, -step
        if min(below[i], above[i]) < step:
            near = min(step, above[i] / 2) if above[i] >= below[i] else -min(step, below[i] / 2)
            far = 2 * near
            middle = function(x) if middle is None else middle
        unit = np.zeros_like(x)
        if not near:
            columns.append(np.zeros_like(middle))
            continue
        unit[i] = 1.0
        one, two = (function(np.clip(x + size * unit, lower, upper)) for size in (near, far))
        if middle is None or far == -near:
            columns.append((one - two) / (near - far))
        else:
            columns.append((4 * one - two - 3 * middle) / far)
    return np.stack(columns, axis=1) if columns else np.zeros((len(function(x)), 0))


def _box(bounds: Any, n: int) -> tuple[np.ndarray | float, np.ndarray | float]:
    """Return lower and upper bounds, within which differences are taken; none where they cannot be read here."""
    if bounds is None:
        return -np.inf, np.inf
    try:
        if isinstance(bounds, scipy.optimize.Bounds):
            sides = bounds.lb, bounds.ub
        else:
            sides = (
                [-np.inf if low is None else low for low, _ in bounds],
                [np.inf if high is None else high for _, high in bounds],
            )
        lower, upper = (np.broadcast_to(np.asarray(side, dtype=float), (n,)) for side in sides)
    except (TypeError, ValueError):  # refused, with the remedy, where they are used
        return -np.inf, np.inf
    return lower, upper


def _by_matrix(hess: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return products with a Hessian that is evaluated when the point changes."""
    last: list[Any] = []

    def product(x: np.ndarray, p: np.ndarray) -> np.ndarray:
        if not last or not np.array_equal(last[0], x):
            matrix = hess(x.copy())
            kept = scipy.sparse.issparse(matrix) or isinstance(matrix, scipy.sparse.linalg.LinearOperator)
            last[:] = x.copy(), matrix if kept else np.atleast_2d(np.asarray(matrix, dtype=float))
        return np.asarray(last[1] @ p).reshape(-1)

    return product


def _listed(constraints: Any) -> list[Any]:
    if constraints is None or (isinstance(constraints, Mapping) and not constraints):
        return []
    return list(constraints) if isinstance(constraints, list | tuple) else [constraints]


def watcher(callback: Callable[..., Any] | None) -> Callable[[Event], object] | None:
    """Return a callback of ours that calls SciPy's."""
    if callback is None:
        return None
    import inspect

    parameters = inspect.signature(callback).parameters
    names = list(parameters)
    two = [each.default is each.empty and each.kind in (0, 1) for each in parameters.values()][:2] == [True, True]

    def watch(event: Event) -> bool:
        if event.iteration == 0:  # SciPy calls back after iterations alone
            return False
        state = scipy.optimize.OptimizeResult(
            x=event.x, fun=event.loss, nit=event.iteration, niter=event.iteration, grad=event.gradient
        )
        try:
            if names == ["intermediate_result"]:
                callback(intermediate_result=state)
                return False
            return bool(callback(event.x, state) if two or names[1:] == ["state"] else callback(event.x))
        except StopIteration:
            return True

    return watch


def _answer(result: Result, value: float, gradient: np.ndarray, constr: bool) -> scipy.optimize.OptimizeResult:
    work, more, extra = result.work, {}, result.certificate.extra
    if "feasibility" in extra:  # under the names of SciPy's trust-constr, in the Euclidean norm
        more = {"constr_violation": extra["feasibility"], "optimality": extra["stationarity"]}
    status = (CONSTR if constr else STATUS)[result.status.group]
    if constr:
        largest = float(np.abs(gradient).max(initial=0.0))
        status, more = (
            3 if result.status is Status.STOPPED_USER else status,
            {"optimality": largest, **more, "niter": result.iterations},
        )
    return scipy.optimize.OptimizeResult(
        x=result.x, fun=value, jac=gradient, success=result.converged, status=status,
        message=result.message, nit=result.iterations, nfev=work.losses + work.gradients, njev=work.gradients,
        nhev=work.hvps, **more,
    )  # fmt: skip
