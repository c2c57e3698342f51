"""``least_squares`` with the signature of ``scipy.optimize``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg

import precond.residuals as residuals
import precond.smooth as smooth
from precond.core import BadInputError
from precond.scipy.optimize import derivative, differences, vector, watcher
from precond.scipy.robust import Array, Robust

SMALL = 300
"""Variables up to which a ``LinearOperator`` is multiplied out."""


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
    loss: Any = "linear",
    f_scale: float = 1.0,
    diff_step: Any = None,
    tr_solver: Any = None,
    tr_options: Any = None,
    jac_sparsity: Any = None,
    max_nfev: int | None = None,
    verbose: int = 0,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    callback: Callable[..., Any] | None = None,
    workers: Any = None,
    *,
    tol: float = 1e-8,
) -> scipy.optimize.OptimizeResult:
    """Minimize half the sum of squares of residuals, or of a robust loss of them.

    Args:
        fun: The residuals, ``fun(x, *args, **kwargs) -> [m]``.
        x0: Where to start, one vector.
        jac: The Jacobian ``[m, n]`` as a function, dense, sparse or a ``LinearOperator``; SciPy's names of difference
            schemes stand for differences that become finer near a solution.
        bounds: Pairs of lower and upper bounds; with finite ones the interior-point method minimizes the sum.
        method: Name of a method of this library, or one of SciPy's three, which stand for the automatic choice.
        ftol: Without effect: success means that the certificate holds.
        xtol: Without effect, likewise.
        gtol: Without effect, likewise; see ``tol``.
        x_scale: Without effect: the methods do not depend on the scales of variables.
        loss: ``"linear"``, ``"soft_l1"``, ``"huber"``, ``"cauchy"``, ``"arctan"``, or a function that returns ``rho``,
            ``rho'`` and ``rho''``, as for SciPy.
        f_scale: Where outliers begin.
        diff_step: Without effect.
        tr_solver: Without effect: dense or iterative is chosen by size.
        tr_options: Without effect.
        jac_sparsity: Without effect; give a sparse ``jac``.
        max_nfev: Largest number of iterations.
        verbose: Print a line at the end if positive.
        args: Further arguments.
        kwargs: Further arguments by name.
        callback: Called with each ``x``, or with ``intermediate_result=`` if that is its argument's name; may raise
            ``StopIteration``.
        workers: Without effect.
        tol: Bound on the cosines between the residual and the columns of its Jacobian; with bounds, on each residual of
            the optimality conditions.

    Returns:
        ``x``, ``cost``, ``fun`` (the residuals), ``jac`` (of a robust loss scaled by the rows, so that its Gram matrix
        approximates the Hessian of the cost), ``grad``, ``optimality``, ``active_mask``, ``success``, ``status``,
        ``message``, ``nfev``, ``njev``; ``success`` means that the certificate, recomputed from the problem, holds.

    Raises:
        BadInputError: An argument cannot be used; the message says what would do.
    """
    more, robust = dict(kwargs or {}), Robust.of(loss, f_scale)
    args = args if isinstance(args, (tuple, list)) else (args,)

    def plain(x: Array) -> Array:
        return np.atleast_1d(np.asarray(fun(x, *args, **more), dtype=float))

    def residual(x: Array) -> Array:
        return plain(x) if robust is None else robust.residual(plain(x))

    jacobian = derivative(jac)

    def scaled(x: Array) -> Any:
        assert jacobian is not None
        return _scaled(_matrix(jacobian(x, *args, **more)), None if robust is None else robust.slope(plain(x)))

    given = None if jacobian is None else scaled
    start = vector(x0)
    try:
        lower, upper = (
            np.broadcast_to(side, start.shape) for side in ((bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds)
        )
    except (TypeError, ValueError) as error:
        raise BadInputError(f"bounds are a pair (lower, upper) of numbers or of {len(start)} each: {error}") from error
    rows_at = given or (lambda x: differences(residual, x))
    if np.any(np.isfinite(lower)) or np.any(np.isfinite(upper)):
        result = smooth.minimize(
            lambda x: float(residual(x) @ residual(x)) / 2, start, jac=lambda x: rows_at(x).T @ residual(x),
            bounds=scipy.optimize.Bounds(lower, upper), tol=tol, max_iterations=max_nfev, callback=watcher(callback),
        )  # fmt: skip
    else:
        result = residuals.least_squares(
            residual, start, jac=given, tol=tol, max_iterations=max_nfev, callback=watcher(callback),
            method="auto" if method in ("trf", "dogbox", "lm") else method,
        )  # fmt: skip
    if verbose > 0:
        print(result.message)
    r, rows = residual(result.x), rows_at(result.x)
    gradient = rows.T @ r
    near = np.sqrt(np.finfo(float).eps) * np.maximum(1.0, np.abs(result.x))
    return scipy.optimize.OptimizeResult(
        x=result.x, cost=float(r @ r) / 2, fun=plain(result.x), jac=rows, grad=gradient,
        optimality=float(np.abs(gradient).max(initial=0.0)), success=result.converged,
        active_mask=(result.x >= upper - near).astype(int) - (result.x <= lower + near).astype(int),
        status=1 if result.converged else 0, message=result.message, nfev=result.work.losses,
        njev=result.work.jacobians,
    )  # fmt: skip


def _matrix(value: Any) -> Any:
    """Return a Jacobian as an array, a sparse matrix, or a ``LinearOperator`` of many columns."""
    if isinstance(value, scipy.sparse.linalg.LinearOperator):
        return value if value.shape[1] > SMALL else value @ np.eye(value.shape[1])
    return value if scipy.sparse.issparse(value) else np.atleast_2d(np.asarray(value, dtype=float))


def _scaled(matrix: Any, slope: Array | None) -> Any:
    """Return the matrix with its rows multiplied by the slopes."""
    if slope is None:
        return matrix
    if isinstance(matrix, scipy.sparse.linalg.LinearOperator):
        return scipy.sparse.linalg.aslinearoperator(scipy.sparse.diags_array(slope)) @ matrix
    return scipy.sparse.diags_array(slope) @ matrix if scipy.sparse.issparse(matrix) else slope[:, None] * matrix
