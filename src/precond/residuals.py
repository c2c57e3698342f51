"""The public ``precond.least_squares``: nonlinear least squares with certified answers."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Builds,
    Certificate,
    IncompatibleError,
    Kind,
    Method,
    Objective,
    Point,
    Preconditioner,
    Problem,
    Result,
    Search,
    Status,
    Work,
)
from precond.preconditioners.inverse_of import InverseOf
from precond.recipes import registry
from precond.solvers.certify_squares import certify_dense, certify_products, measure_dense, measure_products
from precond.solvers.check_derivatives import compare
from precond.solvers.curvature import escape, smallest_curvature
from precond.solvers.implicit import with_gradient
from precond.solvers.minimize import Event, Outcome, check_tolerance, run
from precond.solvers.objectives import TorchObjective
from precond.solvers.progress_line import ProgressLine
from precond.solvers.residual_forms import ResidualForm
from precond.solvers.residuals import SquaresObjective
from precond.solvers.squares_products import ProductSquares

__all__ = ["Event", "least_squares"]

logger = logging.getLogger(__name__)

Attempts = tuple[tuple[str | Method, dict[str, Any]], ...]
"""Names of methods, or methods, with the arguments that differ from their defaults."""

MAX_ITERATIONS = 1000
AUTO: Attempts = (
    ("levenberg-marquardt", {}), ("trust-region-lm", {"factor": 1.0, "scaling": "none"}), ("trust-region-lm", {}),
    ("geodesic-lm", {}),
)  # fmt: skip
"""What ``method="auto"`` tries, in order, until a certificate holds."""
LARGE: Attempts = (("krylov-lm", {}),)
"""What it tries where the Jacobian is known by products alone."""
PATIENCE = 300
"""Iterations that ``method="auto"`` allows every attempt but the last."""
AHEAD = 1e-2
"""The iteration aims at this share of the tolerance, so that the answer has digits to spare."""
DENSE = 2**28
"""Bytes up to which Jacobians are formed."""
SIDE = 300
"""Variables from which on products with Jacobians are tried first."""
FEW = 32
"""Variables up to which Jacobians are formed however many residuals there are."""
WIDE = 3000
"""Variables from which on Jacobians are not decomposed at all."""
ESCAPES = 5
"""Saddle points that an attempt may leave."""


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
) -> Result:
    """Minimize ``||r(x)||^2 / 2`` for a vector of residuals, smooth functions of a few to millions of variables.

    The result is converged when every column of the Jacobian is orthogonal to the residual,
    ``|J_i' r| <= tol |J_i| |r|`` (which no scaling of variables or residuals changes), when the residual itself
    vanishes to rounding, ``||r|| <= eps^(3/4) max_i |J_i| |x_i|``, or when the whole Hessian ``H`` is positive definite
    and ``(J'r)' H^-1 J'r <= tol^2 ||r||^2`` with a small Newton step, as where a column of ``J`` vanishes at the
    solution. All are computed anew at the returned point. They are refused where a variable has lost all influence on
    the residuals on the way, as when an exponential underflows.

    Jacobians that are too large to form, or sparse, are used by their products; then ``||J'r|| <= tol ||J||_F ||r||``
    is certified, with an estimate of the norm.

    Args:
        residual: Maps ``x`` to the residuals, a vector. With a tensor, a dict of tensors or a module as ``x0`` it must
            be a torch function (of the module), and the Jacobian comes from autograd; with an array or a list it is a
            function of NumPy, or of torch. Or a `Problem` of ``precond.problems`` that knows its residuals.
        x0: Where to start; a module is fitted in place.
        jac: Maps ``x`` (one vector) to the Jacobian ``[m, n]``, dense or a SciPy sparse matrix; ``None`` differentiates
            a torch function by autograd and a NumPy function by differences, which are of fourth order near the
            solution.
        method: Name of a recipe of the family "least-squares", a `Method`, or ``"auto"``: Levenberg-Marquardt,
            and from ``x0`` again if its answer has no certificate: as a trust region without and with scaling, and
            with geodesic acceleration.
            Methods of ``minimize`` that search run with the Gauss-Newton matrix in place of the Hessian.
        tol: Bound on the cosines between the residual and the columns of its Jacobian.
        max_iterations: Largest number of iterations of each method tried; ``None`` means 1000.
        callback: Called with an `Event` at the start and after each iteration; a true return value stops the run.
        args: Further arguments of ``residual`` and ``jac``. Where ``residual`` is a torch function and some of them
            require gradients, the solution is attached to their graph.
        preconditioner: Of the linear systems inside of ``"krylov-lm"``.
        check_gradients: Compare ``jac`` with differences at ``x0`` first.

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
    form = ResidualForm.of(_bound(residual, fixed), x0, _bound(jac, fixed))
    if wanted and (not form.torch or not isinstance(x0, (Tensor, Mapping))):
        raise BadInputError(
            "args require gradients, which flow through fits of torch functions of tensors or dicts: detach them"
        )
    if check_gradients and jac is not None:
        complaint = _suspicion(form, form.start)
        if complaint is not None:
            raise BadInputError(complaint)
    fit = _Fit(form, tol, MAX_ITERATIONS if max_iterations is None else max_iterations, callback)
    attempts: Attempts = ((method, {}),)
    if method == "auto":
        attempts = LARGE if preconditioner is not None or fit.large else LARGE + AUTO if fit.wide else AUTO
    for attempt in attempts:
        built, label = _resolve(*attempt)
        if preconditioner is not None:
            if not isinstance(built.preconditioner, InverseOf):
                raise IncompatibleError(f"{label} factors its systems: use method='krylov-lm' with a preconditioner")
            built = dataclasses.replace(
                built, preconditioner=dataclasses.replace(built.preconditioner, inner=preconditioner)
            )
        if fit.attempt(built, label, last=attempt is attempts[-1]):
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
        instance = residual.build(0, torch.device("cpu")) if residual.kind is Kind.SMOOTH else None  # type: ignore[attr-defined]
        if instance is None or instance.residual is None:
            raise BadInputError(f"{residual.name} knows no residuals: minimize it instead")
        return instance.residual, instance.x0 if x0 is None else x0
    if x0 is None:
        raise BadInputError("x0 is missing: say where to start")
    return residual, x0


def _bound(function: Any, args: tuple[Any, ...]) -> Any:
    """Return a function with its further arguments filled in."""
    return (lambda x: function(x, *args)) if args and callable(function) else function


class _Fit:
    """Attempts at one problem.

    Args:
        form: The problem.
        tol: Bound on what is certified.
        limit: Largest number of iterations of an attempt.
        callback: The user's.

    Attributes:
        best: The attempt with the lowest objective, or the first with a certificate: what it claims, its status, and
            its certificate.
        tried: Names of the methods tried.
        work: The account.
        large: The Jacobian is used by its products alone.
        wide: Its products are tried first.
    """

    best: tuple[Outcome, Status, Certificate]

    def __init__(self, form: ResidualForm, tol: float, limit: int, callback: Callable[[Event], object] | None) -> None:
        self.form, self.tol, self.limit, self.callback = form, tol, limit, callback
        self.work, self.tried = Work(losses=form.tried), list[str]()
        self.large = self._is_large()
        self.wide = form.torch and form.start.numel() > SIDE
        self._seen: SquaresObjective | None = None
        self._first: Tensor | None = None

    def _is_large(self) -> bool:
        n = self.form.start.numel()
        if n <= (FEW if self.form.torch else SIDE) or not (self.form.torch or self.form.given):
            return False
        if self.form.given is not None:
            self.work.jacobians += 1
            kind = self.form.given(self.form.start[0].clone())
            if isinstance(kind, scipy.sparse.linalg.LinearOperator):
                return True
            return scipy.sparse.issparse(kind) and (n > WIDE or math.prod(kind.shape) * 8 > DENSE)
        self.work.losses += 1
        with torch.no_grad():
            m = self.form.function(self.form.start[0]).numel()
        return n > WIDE or m * n * self.form.start.element_size() > DENSE

    def attempt(self, method: Method, label: str, *, last: bool) -> bool:
        """Run a method from the start; return whether there is nothing more to try."""
        self.tried.append(label)
        patient = self.limit if last else min(self.limit, PATIENCE)
        start, done, history = self.form.start, 0, list[float]()
        for _ in range(1 + ESCAPES):
            outcome = self._run(method, start, patient - done)
            done += outcome.iterations
            history += outcome.history
            outcome = dataclasses.replace(outcome, iterations=done, history=history)
            outcome, status, certificate = self._certify(outcome)
            below = None
            if status is Status.CONVERGED_GRADIENT and self.form.torch and start.numel():
                status, below = self._curvature(outcome, certificate)
            if below is None or done >= patient:
                break
            start = below
        converged = status.group == "converged"
        if not hasattr(self, "best") or converged or outcome.point.loss < self.best[0].point.loss:
            self.best = (outcome, status, certificate)
        if converged or outcome.status in (Status.STOPPED_USER, Status.STOPPED_INTERRUPT):
            self.best = (outcome, status, certificate)
            return True
        logger.info("%s ended without a certificate: %s", label, status.reason)
        return False

    def _run(self, method: Method, start: Tensor, limit: int) -> Outcome:
        line = ProgressLine(AHEAD * self.tol, limit)
        objective, scale = self._objective(self.large or isinstance(method.preconditioner, InverseOf))
        callback = None if self.callback is None else _unscaled(self.form.shown(self.callback), scale)
        descend = functools.partial(
            run, objective, method=method, tol=AHEAD * self.tol, callback=callback,
            measure=lambda point: _measure(objective, point), progress=line.see,
        )  # fmt: skip
        try:
            outcome = descend(start if scale is None else start * scale, max_iterations=limit)
            if outcome.status.group == "failed" and isinstance(objective, SquaresObjective) and objective.refine():
                after = descend(outcome.point.x, max_iterations=limit - outcome.iterations)
                outcome = dataclasses.replace(
                    after, iterations=outcome.iterations + after.iterations, history=outcome.history + after.history
                )
        finally:
            line.end()
        if isinstance(objective, SquaresObjective):
            self._seen, self._first = objective, objective.first if self._first is None else self._first
        if scale is None:
            return outcome
        return dataclasses.replace(outcome, point=dataclasses.replace(outcome.point, x=outcome.point.x / scale))

    def _curvature(self, outcome: Outcome, certificate: Certificate) -> tuple[Status, Tensor | None]:
        """Return the status of a point whose gradient vanishes, and a lower point where it is no minimum."""
        x, form = outcome.point.x, self.form
        objective = TorchObjective(lambda y: form.function(y).square().sum() / 2, curvature=True, work=Work())
        try:
            point = objective.point(x)
            found = smallest_curvature(objective.hessian(x), x, 0, torch.finfo(x.dtype).eps ** 0.5)
        except (RuntimeError, NotImplementedError, IncompatibleError) as error:
            logger.info("the curvature at the solution is not known: %s", error)
            return Status.CONVERGED_GRADIENT, None
        self.work.hvps += objective.work.hvps
        certificate.extra["smallest curvature"] = found.smallest
        if not found.negative:
            return Status.CONVERGED_GRADIENT, None
        below = escape(objective, point, found)
        self.work.losses += objective.work.losses
        return Status.CONVERGED_SADDLE, None if below is None else below.x

    def _objective(self, products: bool) -> tuple[Objective, Tensor | None]:
        """Return the oracle, and what variables are multiplied by."""
        form, work = self.form, self.work
        if not products:
            return SquaresObjective(form.function, form.jacobian(), work=work, twice=form.torch), None
        return ProductSquares(form.function, form.given, work=work, scale=self._scaling), self._scaling

    @functools.cached_property
    def _scaling(self) -> Tensor:
        """What makes columns of the Jacobian at the start of similar length, ``[n]``."""
        form = self.form
        norms = ProductSquares(form.function, form.given, work=self.work).linearization(form.start)[1].column_norms()
        top = float(norms.max()) if norms.numel() else 1.0
        return torch.where(norms > 1e-8 * top, norms, top if top > 0 else 1.0)

    def _certify(self, outcome: Outcome) -> tuple[Outcome, Status, Certificate]:
        """Judge an outcome; where only a Newton step is missing, the one after it."""
        form, x = self.form, outcome.point.x
        if self.large:
            again, y = ProductSquares(form.function, form.given, work=Work(), scale=self._scaling), x * self._scaling
            status, certificate = certify_products(*again.linearization(y), y[0], self.tol)
        else:
            spent = Work()
            status, certificate, nearer = certify_dense(form, x, self.tol, spent, self._seen, self._first)
            if nearer is not None and outcome.status not in (Status.STOPPED_USER, Status.STOPPED_INTERRUPT):
                self.work.losses += spent.losses
                self.work.jacobians += spent.jacobians
                self.work.hvps += spent.hvps
                status, after, _ = certify_dense(form, nearer, self.tol, Work(), None, self._first)
                if after.holds:
                    point = dataclasses.replace(outcome.point, x=nearer, loss=x.new_tensor(after.extra["loss"]))
                    return dataclasses.replace(outcome, point=point), status, after
        if certificate.holds:
            return outcome, status, certificate
        return (
            outcome,
            (Status.FAILED_STAGNATION if outcome.status.group == "converged" else outcome.status),
            certificate,
        )


def _unscaled(callback: Callable[[Event], object], scale: Tensor | None) -> Callable[[Event], object]:
    if scale is None:
        return callback
    return lambda event: callback(dataclasses.replace(event, x=event.x / scale, gradient=event.gradient * scale))


def _measure(objective: Objective, point: Point) -> float:
    if isinstance(objective, ProductSquares):
        return measure_products(*objective.linearization(point.x), point.x[0])
    assert isinstance(objective, SquaresObjective)
    return measure_dense(*objective.linearization(point.x), point.x[0])


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
    found = registry.find(method)
    built = found.build(**arguments) if found.builds is Builds.METHOD else None
    if not isinstance(built, Method) or not isinstance(built.step, Search):
        names = dict.fromkeys(str(name) for name, _ in AUTO)
        raise IncompatibleError(f"{method!r} is no method of least squares: use one of {', '.join(names)}")
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return built, f"{method}({given})" if given else method
