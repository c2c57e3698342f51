"""``least_squares`` with the signature of ``scipy.optimize``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.optimize

from precond.core import Result, Status
from precond.scipy.asked import Asked, matrix_of, scaled
from precond.scipy.optimize import derivative, vector, watcher
from precond.scipy.refusing import (
    read_bounds,
    refuse_jacobian,
    refuse_names,
    refuse_scale,
    refuse_start,
    refuse_tolerances,
)
from precond.scipy.robust import EPS, Array, Robust
from precond.scipy.runs import Runs
from precond.solvers.smooth.minimize import Event

THEIRS = ("trf", "dogbox", "lm")
"""SciPy's names of methods."""


def least_squares(
    fun: Callable[..., Any],
    x0: Any,
    jac: Any = "2-point",
    bounds: Any = (-np.inf, np.inf),
    method: str = "trf",
    ftol: float | None = 1e-8,
    xtol: float | None = 1e-8,
    gtol: float | None = 1e-8,
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
        bounds: Pairs of lower and upper bounds. Where the Jacobian cannot be formed, or the fit within them has no
            certificate, the interior-point method minimizes the sum.
        method: Name of a method of this library, or one of SciPy's three, which stand for the automatic choice.
        ftol: Without effect: success means that the certificate holds.
        xtol: Without effect, likewise.
        gtol: Without effect, likewise; see ``tol``.
        x_scale: Without effect: the methods do not depend on the scales of variables.
        loss: ``"linear"``, ``"soft_l1"``, ``"huber"``, ``"cauchy"``, ``"arctan"``, or a function that returns ``rho``,
            ``rho'`` and ``rho''``, as for SciPy. Those that are not convex are minimized also from the minimum of
            ``"soft_l1"``, and the lower of both is returned.
        f_scale: Where outliers begin.
        diff_step: Without effect.
        tr_solver: Without effect: dense or iterative is chosen by size.
        tr_options: Without effect.
        jac_sparsity: Without effect; give a sparse ``jac``.
        max_nfev: Largest number of points, the start among them; those of differences are not counted.
        verbose: Print a line at the end if 1 or 2.
        args: Further arguments.
        kwargs: Further arguments by name.
        callback: Called with each ``x``, or with ``intermediate_result=`` if that is its argument's name; may raise
            ``StopIteration``.
        workers: Without effect.
        tol: Bound on the cosines between the residual and the columns of its Jacobian that no bound holds; by the
            interior-point method, on each residual of the optimality conditions.

    Returns:
        ``x``, ``cost``, ``fun`` (the residuals), ``jac`` (of a robust loss scaled by the rows as SciPy's, so that its
        Gram matrix approximates the Hessian of the cost), ``grad``, ``optimality``, ``active_mask``, ``success``,
        ``status``, ``message``, ``nfev`` (calls of ``fun``; by differences, as for SciPy, without theirs unless the
        method is ``"lm"``), ``njev``; ``success`` means that the certificate, recomputed from the problem, holds.

    Raises:
        BadInputError: SciPy's function refuses such arguments with a `ValueError`, which this is; the message says what
            would do.
        TypeError: ``tr_options`` that ``lsmr`` does not have.
    """
    start = vector(x0)
    refuse_names(method, loss, tr_solver, verbose, max_nfev)
    jacobian = derivative(jac)
    lower, upper = read_bounds(bounds, start, method)
    refuse_scale(x_scale, start)
    refuse_tolerances(method, ftol=ftol, xtol=xtol, gtol=gtol)
    args = args if isinstance(args, (tuple, list)) else (args,)
    asked = Asked(fun, jacobian, args, dict(kwargs or {}), lower, upper)
    first = asked.residual(start)
    refuse_start(first, start, method)
    slopes = asked.jacobian(start) if jacobian is not None else None
    refuse_jacobian(slopes, (len(first), len(start)), method, tr_solver, tr_options, x_scale, jac_sparsity)
    robust = Robust.of(loss, f_scale, first)
    limit = None if max_nfev is None else max(0, int(max_nfev) - 1)
    tell = watcher(callback)
    seen: list[Event] = []

    def watch(event: Event) -> object:
        if event.iteration:  # starts are not told
            seen[:] = [event]
        return tell is not None and tell(event)

    bounded = np.any(np.isfinite(lower) | np.isfinite(upper))
    box = scipy.optimize.Bounds(lower, upper) if bounded else None
    runs = Runs(asked, "auto" if method in THEIRS else method, box, tol, limit, slopes)
    result = runs.run(robust, start, watch)
    if robust is not None and not robust.convex and result.status.group != "stopped":
        result = _lowest(robust, asked, result, lambda loss, at, silent: runs.run(loss, at, None if silent else watch))
    if verbose > 0:
        print(result.message)
    x = result.x
    f, gradient = asked.residual(x), asked.gradient(robust, x)
    near = np.sqrt(EPS) * np.maximum(1.0, np.abs(x))
    mask = (x >= upper - near).astype(int) - (x <= lower + near).astype(int)
    matrix, cost = matrix_of(asked.jacobian(x)), asked.cost(robust, x)
    if tell and seen and _status(result) != -2 and not np.array_equal(seen[0].x, x):
        # the certificate's last step, or the other of two minima: SciPy's last callback sees what is returned
        tell(dataclasses.replace(seen[0], iteration=seen[0].iteration + 1, x=x.copy(), loss=cost, gradient=gradient))
    return scipy.optimize.OptimizeResult(
        x=x, cost=cost, fun=f.copy(), grad=gradient, active_mask=mask,
        jac=matrix if robust is None else scaled(matrix, robust.factor(f)),
        optimality=_optimality(x, gradient, lower, upper, mask if method == "dogbox" else None),
        success=result.converged, status=_status(result), message=result.message,
        nfev=runs.points if jacobian is None and method != "lm" else asked.residuals,
        njev=asked.jacobians if jacobian is not None else None if method == "lm" else runs.jacobians,
    )  # fmt: skip


def _lowest(robust: Robust, asked: Asked, found: Result, run: Callable[[Robust, Array, bool], Result]) -> Result:
    """Return the lower of a minimum and that reached from the minimum of a convex loss of the same scale.

    Losses that let go of outliers have many minima; the convex one leads to one where most residuals are small.
    """
    mild = run(robust.milder(), asked.start, True)
    other = run(robust, mild.x, False)
    now, then = asked.cost(robust, other.x), asked.cost(robust, found.x)
    if other.status.group == "stopped" or (now < then - 1e-9 * abs(then) or not then < np.inf):
        return other
    return other if other.converged and not found.converged and now <= then + 1e-9 * abs(then) else found


def _status(result: Result) -> int:
    """Return SciPy's number: 1 with a certificate, -2 where the callback stopped the run, 0 otherwise."""
    return 1 if result.converged else -2 if result.status is Status.STOPPED_USER else 0


def _optimality(x: Array, gradient: Array, lower: Array, upper: Array, mask: Array | None) -> float:
    """Return the largest entry of the gradient, scaled as by SciPy's methods.

    By ``"trf"`` each is multiplied by the distance to the bound that it points to, by ``"dogbox"`` those that point to
    a bound that holds are left out.
    """
    if mask is not None:
        kept = gradient[mask * gradient >= 0]
    else:
        room = np.where(gradient < 0, upper - x, np.where(gradient > 0, x - lower, np.inf))
        kept = gradient * np.where(np.isfinite(room), room, 1.0)
    return float(np.abs(kept).max(initial=0.0))
