"""The public ``precond.least_squares``: nonlinear least squares with certified answers."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Builds,
    IncompatibleError,
    Kind,
    Method,
    Preconditioner,
    Problem,
    Result,
    Search,
)
from precond.preconditioners.inverse_of import InverseOf
from precond.preconditioners.sparse_inverse import SparseInverse
from precond.recipes.named import find_method
from precond.solvers.check_derivatives import compare
from precond.solvers.smooth.implicit import with_gradient
from precond.solvers.smooth.minimize import Event, check_tolerance
from precond.solvers.squares.fit import Fit
from precond.solvers.squares.forms import ResidualForm

__all__ = ["Event", "least_squares"]

logger = logging.getLogger(__name__)

Attempts = tuple[tuple[str | Method, dict[str, Any]], ...]
"""Names of methods, or methods, with the arguments that differ from their defaults."""

MAX_ITERATIONS = 1000
AUTO: Attempts = (
    ("nl2sol", {}), ("levenberg-marquardt", {}),
    ("trust-region-lm", {"factor": 1.0, "scaling": "none"}), ("geodesic-lm", {}),
)  # fmt: skip
"""What ``method="auto"`` tries, in order, until a certificate holds."""
LARGE: Attempts = (("krylov-lm", {}),)
"""What it tries where the Jacobian is known by products alone."""
SPARSE: Attempts = (("sparse-lm", {}),)
"""What it tries first where the Jacobian has entries that are cheap to factorize with."""


def least_squares(
    residual: Callable[..., Any] | Problem,
    x0: Any = None,
    *,
    jac: Callable[..., Any] | None = None,
    method: str | Method = "auto",
    tol: float = 1e-8,
    max_iterations: int | None = None,
    callback: Callable[[Event], object] | None = None,
    args: Sequence[Any] = (),
    preconditioner: Preconditioner[Any] | None = None,
    check_gradients: bool = False,
    bounds: Any = None,
) -> Result:
    """Minimize ``||r(x)||^2 / 2`` for a vector of residuals, smooth functions of a few to millions of variables.

    The result is converged when every column of the Jacobian is orthogonal to the residual,
    ``|J_i' r| <= tol |J_i| |r|`` (which no scaling of variables or residuals changes), when the residual itself
    vanishes to rounding, ``||r|| <= eps^(3/4) max_i |J_i| |x_i|``, or when the whole Hessian ``H`` is positive definite
    and ``(J'r)' H^-1 J'r <= tol^2 ||r||^2`` with a small Newton step, as where a column of ``J`` vanishes at the
    solution. All are computed anew at the returned point. They are refused where a variable has lost all influence on
    the residuals on the way, as when an exponential underflows.

    Jacobians that are too large to form are used by their products, or by their entries where they are sparse; then
    ``||J'r|| <= tol ||J||_F ||r||`` is certified, with an estimate of the norm.

    Args:
        residual: Maps ``x`` to the residuals, a vector. With a tensor, a dict of tensors or a module as ``x0`` it must
            be a torch function (of the module), and the Jacobian comes from autograd; with an array or a list it is a
            function of NumPy, or of torch. Or a `Problem` of ``precond.problems`` that knows its residuals.
        x0: Where to start; a module is fitted in place.
        jac: Maps ``x`` (one vector) to the Jacobian ``[m, n]``, dense or a SciPy sparse matrix; ``None`` differentiates
            a torch function by autograd and a NumPy function by differences, which are of fourth order near the
            solution.
        method: Name of a recipe of the family "least-squares", a `Method`, or ``"auto"``: Gauss-Newton steps in a trust
            region, or those of a Hessian learned from secants where that foretells more (``"nl2sol"``), and from ``x0``
            again if its answer has no certificate: damped by the gain ratio, as a trust region without scaling, and
            with geodesic acceleration. In hundreds of variables or more, sparse factorizations where the Jacobian is
            sparse (``"sparse-lm"``), else conjugate gradients (``"krylov-lm"``), are tried first.
            Methods of ``minimize`` that search run with the Gauss-Newton matrix in place of the Hessian.
        tol: Bound on the cosines between the residual and the columns of its Jacobian.
        max_iterations: Largest number of iterations of each method tried; ``None`` means 1000.
        callback: Called with an `Event` at the start and after each iteration; a true return value stops the run.
        args: Further arguments of ``residual`` and ``jac``. Where ``residual`` is a torch function and some of them
            require gradients, the solution is attached to their graph.
        preconditioner: Of the linear systems inside of ``"krylov-lm"``.
        check_gradients: Compare ``jac`` with differences at ``x0`` first.
        bounds: A ``scipy.optimize.Bounds``, or a pair (lower, upper) of numbers or of vectors like ``x``. Points are
            clipped, and variables that a bound holds stand still while descent would take them out; what is certified
            is that of the others. Needs Jacobians that can be formed.

    Returns:
        The result in the form of ``x0``; ``work.losses`` counts residuals, also those in differences,
        ``work.jacobians`` Jacobians, and ``work.matvecs`` products with them. Evaluations for the certificate
        are not counted, unless its Hessian gave the answer's last step.

    Raises:
        BadInputError: An argument cannot be used; the message says what would do.
        IncompatibleError: The method cannot run on a sum of squares.
        UnknownNameError: No method has that name.

    Example:
        >>> import torch, precond
        >>> t = torch.linspace(0, 1, 9).double()
        >>> fit = precond.least_squares(lambda b: b[0] * (b[1] * t).exp() - 2 * t.exp(), torch.ones(2).double())
        >>> fit.converged
        True
    """
    check_tolerance(tol, max_iterations, callback)
    residual, x0 = _of_problem(residual, x0)
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    wanted = [a for a in args if isinstance(a, Tensor) and a.requires_grad and torch.is_grad_enabled()]
    fixed = tuple(a.detach() if isinstance(a, Tensor) else a for a in args)
    form = ResidualForm.of(_bound(residual, fixed), x0, _bound(jac, fixed)).bounded(bounds)
    if wanted and (not form.torch or not isinstance(x0, (Tensor, Mapping))):
        raise BadInputError(
            "args require gradients, which flow through fits of torch functions of tensors or dicts: detach them"
        )
    if wanted and form.box is not None:
        raise BadInputError("args require gradients, which do not flow through fits within bounds: detach them")
    if check_gradients and jac is not None:
        complaint = _suspicion(form, form.start)
        if complaint is not None:
            raise BadInputError(complaint)
    fit = Fit(form, tol, MAX_ITERATIONS if max_iterations is None else max_iterations, callback)
    attempts: Attempts = ((method, {}),)
    if method == "auto":
        large = preconditioner is not None or fit.large
        attempts = LARGE if large else LARGE + AUTO if fit.wide and form.box is None else AUTO
        if preconditioner is None and form.box is None and fit.sparse:
            attempts = SPARSE + attempts
    for attempt in attempts:
        built, label = _resolve(*attempt)
        if preconditioner is not None:
            if not isinstance(built.preconditioner, InverseOf):
                raise IncompatibleError(f"{label} factors its systems: use method='krylov-lm' with a preconditioner")
            built = dataclasses.replace(
                built, preconditioner=dataclasses.replace(built.preconditioner, inner=preconditioner)
            )
        products = isinstance(built.preconditioner, (InverseOf, SparseInverse))
        if form.box is not None and (products or fit.large):
            raise IncompatibleError(
                "fits within bounds form their Jacobians, which cannot be done here: minimize half the sum of squares "
                "with precond.minimize(..., bounds=...)"
            )
        patient = attempt is attempts[-1] or attempt in SPARSE
        if fit.attempt(built, label, products=products, patient=patient):
            break
    outcome, status, certificate = fit.best
    says = fit.tried[-1] if len(fit.tried) == 1 else f"{fit.tried[-1]} after {', '.join(fit.tried[:-1])}"
    says = f"{says} (auto)" if method == "auto" else says
    note = ""
    if jac is not None and status.group == "failed" and not fit.large:
        note = _suspicion(form, outcome.point.x) or ""
    flat = outcome.point.x[0]
    if wanted:
        flat = with_gradient(flat, lambda x, *more: _half(ResidualForm.of(_bound(residual, more), x0, None), x), args)
    return Result(
        form.finish(flat), status, certificate, fit.work, outcome.iterations, says, outcome.history, note=note
    )  # fmt: skip


def _half(form: ResidualForm, x: Tensor) -> Tensor:
    """Return half the sum of squares, with its graph."""
    r = form.function(x)
    return r.dot(r) / 2


def _of_problem(residual: Any, x0: Any) -> tuple[Any, Any]:
    """Return residuals and starting point; those of a `Problem` where one was given."""
    if isinstance(residual, Problem):
        instance = residual.build(0, torch.device("cpu")) if residual.kind is Kind.SMOOTH else None  # type: ignore[attr-defined]  # smooth problems build
        if instance is None or instance.residual is None:
            raise BadInputError(f"{residual.name} knows no residuals: minimize it instead")
        return instance.residual, instance.x0 if x0 is None else x0
    if x0 is None:
        raise BadInputError("x0 is missing: say where to start")
    return residual, x0


def _bound(function: Any, args: tuple[Any, ...]) -> Any:
    """Return a function with its further arguments filled in."""
    return (lambda x: function(x, *args)) if args and callable(function) else function


def _suspicion(form: ResidualForm, x: Tensor) -> str | None:
    """Return what is wrong with the user's Jacobian at ``x``, if differences tell."""
    r = form.function(x[0])
    given = form.jacobian().at(form.function, x[0], r)
    found = compare(form.function, given, x[0])
    return None if found is None else found.message("jac", "residual")


def _resolve(method: str | Method, arguments: dict[str, Any]) -> tuple[Method, str]:
    if isinstance(method, Method):
        return method, type(method.step).__name__
    if not isinstance(method, str):
        raise BadInputError(f"method must be a name or a Method, not {type(method).__name__}")
    names = list(dict.fromkeys(str(name) for name, _ in AUTO))
    built = find_method(method, Builds.METHOD, names).build(**arguments)
    if not isinstance(built, Method) or not isinstance(built.step, Search):
        raise IncompatibleError(f"{method!r} is no method of least squares: use one of {', '.join(names)}")
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return built, f"{method}({given})" if given else method
