"""``minimize`` and ``least_squares`` with the signatures of ``scipy.optimize``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.optimize
import scipy.optimize as theirs
import scipy.sparse
import scipy.sparse.linalg

import precond.residuals as residuals
import precond.smooth as smooth
from precond.core import IncompatibleError, Result
from precond.solvers.minimize import Event

NEAREST = {
    "bfgs": "lbfgs", "l-bfgs-b": "lbfgs", "cg": "lbfgs", "tnc": "newton-cg", "newton-cg": "newton-cg",
    "trust-ncg": "trust-region-newton", "trust-krylov": "trust-region-newton", "trust-exact": "newton-cholesky",
    "dogleg": "newton-cholesky", "slsqp": "auto", "trust-constr": "auto",
}  # fmt: skip
"""The nearest methods of this library by SciPy's names, in lower case."""
DERIVATIVE_FREE = {"nelder-mead", "powell", "cobyla", "cobyqa"}
STATUS = {"converged": 0, "stopped": 1, "failed": 2}


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
            1e-6 unless given.
        callback: Called with each ``x``, or with ``intermediate_result=`` if that is its argument's name; may raise
            ``StopIteration``.
        options: ``maxiter``, ``disp`` to print a line at the end, and ``gtol`` in place of ``tol``; others are left
            alone with a warning.

    Returns:
        ``x``, ``fun``, ``jac``, ``success``, ``status`` (0 converged, 1 stopped, 2 failed), ``message``, ``nit``,
        ``nfev``, ``njev``, ``nhev``; ``success`` means that the certificate, recomputed from the problem, holds.
    """
    args = args if isinstance(args, tuple) else (args,)
    given = dict(options or {})
    limit, show, gtol = given.pop("maxiter", None), given.pop("disp", False), given.pop("gtol", None)
    tol = gtol if tol is None else tol
    if given:
        warnings.warn(f"options without effect here: {', '.join(sorted(given))}", theirs.OptimizeWarning, stacklevel=2)
    name = _method(method, bounds is not None or bool(_listed(constraints)))
    start = np.atleast_1d(np.asarray(x0, dtype=float))
    both = jac is True

    def value(x: np.ndarray) -> float:
        answer = fun(x, *args)
        return float(np.squeeze(answer[0] if both else answer))

    def gradient(x: np.ndarray) -> np.ndarray:
        if both:
            return np.asarray(fun(x, *args)[1], dtype=float)
        if callable(jac):
            return np.asarray(jac(x, *args), dtype=float)
        return _differences(lambda y: np.array([value(y)]), x)[0]

    product = None
    if hessp is not None:
        product = lambda x, p: hessp(x, p, *args)  # noqa: E731
    elif callable(hess):
        product = _by_matrix(lambda x: hess(x, *args))
    limits = _listed(constraints)
    result = smooth.minimize(
        value, start, jac=gradient, hessp=product, method=name, constraints=limits or None,
        bounds=bounds, tol=1e-6 if tol is None else tol, max_iterations=limit, callback=_watcher(callback),
    )  # fmt: skip
    answer = _answer(result, value(result.x), gradient(result.x))
    if show:
        print(result.message)
    return answer


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


def least_squares(
    fun: Callable[..., Any],
    x0: Any,
    jac: Any = "2-point",
    bounds: Any = (-np.inf, np.inf),
    method: str = "trf",
    ftol: float | None = None,
    xtol: float | None = None,
    gtol: float | None = None,
    x_scale: Any = None,
    loss: str = "linear",
    f_scale: float = 1.0,
    max_nfev: int | None = None,
    verbose: int = 0,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    tol: float = 1e-8,
) -> scipy.optimize.OptimizeResult:
    """Minimize half the sum of squares of residuals.

    Args:
        fun: The residuals, ``fun(x, *args, **kwargs) -> [m]``.
        x0: Where to start, one vector.
        jac: The Jacobian ``[m, n]`` as a function; SciPy's names of difference schemes stand for differences that
            become finer near a solution.
        bounds: Pairs of lower and upper bounds; with finite ones the interior-point method minimizes the sum.
        method: Name of a method of this library, or one of SciPy's three, which stand for the automatic choice.
        ftol: Without effect: success means that the certificate holds.
        xtol: Without effect, likewise.
        gtol: Without effect, likewise; see ``tol``.
        x_scale: Without effect: the methods do not depend on the scales of variables.
        loss: Must be ``"linear"``.
        f_scale: Without effect for a linear loss.
        max_nfev: Largest number of iterations.
        verbose: Print a line at the end if positive.
        args: Further arguments.
        kwargs: Further arguments by name.
        tol: Bound on the cosines between the residual and the columns of its Jacobian; with bounds, on each residual of
            the optimality conditions.

    Returns:
        ``x``, ``cost``, ``fun`` (the residuals), ``jac``, ``grad``, ``optimality``, ``success``, ``status``,
        ``message``, ``nfev``, ``njev``; ``success`` means that the certificate, recomputed from the problem, holds.
    """
    if loss != "linear":
        raise IncompatibleError("robust losses are not supported here: use loss='linear', or SciPy's own")
    more = dict(kwargs or {})
    residual = lambda x: np.atleast_1d(np.asarray(fun(x, *args, **more), dtype=float))  # noqa: E731
    derivative = (lambda x: np.asarray(jac(x, *args, **more), dtype=float)) if callable(jac) else None
    start = np.atleast_1d(np.asarray(x0, dtype=float))
    lower, upper = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
    if np.any(np.isfinite(lower)) or np.any(np.isfinite(upper)):
        rows_at = derivative or (lambda x: _differences(residual, x))
        result = smooth.minimize(
            lambda x: float(residual(x) @ residual(x)) / 2, start, jac=lambda x: rows_at(x).T @ residual(x),
            bounds=scipy.optimize.Bounds(np.broadcast_to(lower, start.shape), np.broadcast_to(upper, start.shape)),
            tol=tol, max_iterations=max_nfev,
        )  # fmt: skip
    else:
        result = residuals.least_squares(
            residual, start, jac=derivative, tol=tol, max_iterations=max_nfev,
            method="auto" if method in ("trf", "dogbox", "lm") else method,
        )  # fmt: skip
    if verbose > 0:
        print(result.message)
    r = residual(result.x)
    rows = derivative(result.x) if derivative else _differences(residual, result.x)
    gradient = rows.T @ r
    return scipy.optimize.OptimizeResult(
        x=result.x, cost=float(r @ r) / 2, fun=r, jac=rows, grad=gradient,
        optimality=float(np.abs(gradient).max(initial=0.0)), success=result.converged,
        status=1 if result.converged else 0, message=result.message, nfev=result.work.losses,
        njev=result.work.jacobians,
    )  # fmt: skip


def _differences(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return the Jacobian ``[m, n]`` by central differences with increments ``eps^(1/3) max(|x_i|, 1)``."""
    steps = np.finfo(float).eps ** (1 / 3) * np.maximum(np.abs(x), 1.0)
    columns = [
        (function(x + step * unit) - function(x - step * unit)) / (2 * step)
        for step, unit in zip(steps, np.eye(len(x)), strict=True)
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((len(function(x)), 0))


def _by_matrix(hess: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return products with a Hessian that is evaluated when the point changes."""
    last: list[Any] = []

    def product(x: np.ndarray, p: np.ndarray) -> np.ndarray:
        if not last or not np.array_equal(last[0], x):
            matrix = hess(x.copy())
            kept = scipy.sparse.issparse(matrix) or isinstance(matrix, scipy.sparse.linalg.LinearOperator)
            last[:] = x.copy(), matrix if kept else np.asarray(matrix, dtype=float)
        return np.asarray(last[1] @ p).reshape(-1)

    return product


def _listed(constraints: Any) -> list[Any]:
    if constraints is None or (isinstance(constraints, Mapping) and not constraints):
        return []
    return list(constraints) if isinstance(constraints, list | tuple) else [constraints]


def _watcher(callback: Callable[..., Any] | None) -> Callable[[Event], object] | None:
    """Return a callback of ours that calls SciPy's."""
    if callback is None:
        return None
    import inspect

    named = list(inspect.signature(callback).parameters) == ["intermediate_result"]

    def watch(event: Event) -> bool:
        if event.iteration == 0:  # SciPy calls back after iterations alone
            return False
        try:
            if named:
                callback(intermediate_result=scipy.optimize.OptimizeResult(x=event.x, fun=event.loss))
                return False
            return bool(callback(event.x))
        except StopIteration:
            return True

    return watch


def _answer(result: Result, value: float, gradient: np.ndarray) -> scipy.optimize.OptimizeResult:
    work = result.work
    return scipy.optimize.OptimizeResult(
        x=result.x, fun=value, jac=gradient, success=result.converged, status=STATUS[result.status.group],
        message=result.message, nit=result.iterations, nfev=work.losses + work.gradients, njev=work.gradients,
        nhev=work.hvps,
    )  # fmt: skip
