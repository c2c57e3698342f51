"""The public ``precond.least_squares``: nonlinear least squares with certified answers."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Builds,
    Certificate,
    IncompatibleError,
    Method,
    Need,
    Point,
    Result,
    Status,
    Work,
)
from precond.recipes import registry
from precond.solvers.layout import Layout
from precond.solvers.minimize import Event, Outcome, check_tolerance, run
from precond.solvers.residuals import (
    AutogradJacobian,
    DifferenceJacobian,
    GivenJacobian,
    Jacobian,
    SquaresObjective,
    largest_cosine,
)

__all__ = ["Event", "least_squares"]

logger = logging.getLogger(__name__)

MAX_ITERATIONS = 1000
AUTO = ("levenberg-marquardt", "trust-region-lm", "geodesic-lm")
"""What ``method="auto"`` tries, in order, until a certificate holds."""
PATIENCE = 300
"""Iterations that ``method="auto"`` allows every attempt but the last."""
AHEAD = 1e-2
"""The iteration aims at this share of the tolerance, so that the answer has digits to spare."""


def least_squares(
    residual: Callable[[Any], Any],
    x0: Any,
    *,
    jac: Callable[[Any], Any] | None = None,
    method: str | Method = "auto",
    tol: float = 1e-8,
    max_iterations: int | None = None,
    callback: Callable[[Event], object] | None = None,
) -> Result:
    """Minimize ``||r(x)||^2 / 2`` for a vector of residuals, smooth functions of a few to some thousand variables.

    The result is converged when every column of the Jacobian is orthogonal to the residual,
    ``|J_i' r| <= tol |J_i| |r|`` (which no scaling of variables or residuals changes), or when the residual itself
    vanishes to rounding:
    ``||r|| <= eps^(3/4) max_i |J_i| |x_i|``. Both are computed anew at the returned point. The first is refused where a
    variable has lost all influence on the residuals on the way, as when an exponential underflows.

    Args:
        residual: Maps ``x`` to the residuals, a vector. With a tensor or a dict of tensors as ``x0`` it must be a torch
            function, and the Jacobian comes from autograd; with an array or a list it is a NumPy function.
        x0: Where to start.
        jac: Maps ``x`` (one vector) to the Jacobian ``[m, n]``; ``None`` differentiates a torch function by autograd
            and a NumPy function by differences, which are of fourth order near the solution.
        method: Name of a recipe of the family "least-squares", a `Method`, or ``"auto"``: Levenberg-Marquardt,
            and from ``x0`` again if its answer has no certificate: as a trust region, and with geodesic acceleration.
        tol: Bound on the cosines between the residual and the columns of its Jacobian.
        max_iterations: Largest number of iterations of each method tried; ``None`` means 1000.
        callback: Called with an `Event` at the start and after each iteration; a true return value stops the run.

    Returns:
        The result in the form of ``x0``; ``work.losses`` counts residuals, also those in differences, and
        ``work.jacobians`` Jacobians. The evaluation for the certificate is not counted.

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
    check_tolerance(tol, max_iterations)
    form = _Form.of(residual, x0, jac)
    limit = MAX_ITERATIONS if max_iterations is None else max_iterations
    work, best, tried = Work(), None, []
    for name in AUTO if method == "auto" else (method,):
        last = name == AUTO[-1] or method != "auto"
        built, label = _resolve(name)
        objective = SquaresObjective(form.function, form.jacobian(), work=work, twice=form.torch)
        outcome = run(
            objective, form.start, built, tol=AHEAD * tol, max_iterations=limit if last else min(limit, PATIENCE),
            callback=None if callback is None else form.shown(callback),
            measure=lambda point, objective=objective: _measure(objective, point),
        )  # fmt: skip
        status, certificate = _certify(form, outcome, tol)
        tried.append(label)
        attempt = (outcome, status, certificate)
        if best is None or status.group == "converged" or outcome.point.loss < best[0].point.loss:
            best = attempt
        if status.group == "converged" or outcome.status in (Status.STOPPED_USER, Status.STOPPED_INTERRUPT):
            best = attempt
            break
        logger.info("%s ended without a certificate: %s", label, status.reason)
    assert best is not None
    outcome, status, certificate = best
    says = tried[-1] if len(tried) == 1 else f"{tried[-1]} after {', '.join(tried[:-1])}"
    says = f"{says} (auto)" if method == "auto" else says
    return Result(form.give(outcome.point.x[0]), status, certificate, work, outcome.iterations, says, outcome.history)


@dataclasses.dataclass(frozen=True)
class _Form:
    """One of the forms that a problem may have.

    Attributes:
        start: The starting point, ``[1, n]``.
        function: The residuals as a function of a flat vector, ``[n] -> [m]``.
        jacobian: Makes the derivatives.
        give: Turns a flat vector ``[n]`` into what a user sees.
        torch: The function is one of torch operations.
    """

    start: Tensor
    function: Callable[[Tensor], Tensor]
    jacobian: Callable[[], Jacobian]
    give: Callable[[Tensor], Any]
    torch: bool

    @classmethod
    def of(cls, residual: Any, x0: Any, jac: Any) -> _Form:
        if not callable(residual):
            raise BadInputError(f"residual must be callable, not {type(residual).__name__}")
        if jac is not None and not callable(jac):
            raise BadInputError(f"jac must be callable or None, not {jac!r}")
        if isinstance(x0, (Tensor, Mapping)):
            if jac is not None and not isinstance(x0, Tensor):
                raise BadInputError("jac works on one vector: pass x0 as a vector, or leave jac out with a dict")
            variables = x0 if isinstance(x0, Tensor) else dict(x0)
            layout = Layout.of(variables)

            def by_torch(flat: Tensor) -> Tensor:
                return _vector(residual(layout.restore(flat)))

            def derivatives() -> Jacobian:
                return AutogradJacobian(by_torch) if jac is None else GivenJacobian(lambda x: jac(layout.restore(x)))

            return cls(layout.flatten(variables)[None], by_torch, derivatives, layout.restore, jac is None)
        try:
            array = np.array(x0, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise BadInputError(f"x0 cannot be read as a vector of numbers ({error})") from error
        tensor = torch.from_numpy(array)
        layout = Layout.of(tensor)

        def give(flat: Tensor) -> Any:
            return layout.named(flat)[""].numpy().copy()

        def by_numpy(flat: Tensor) -> Tensor:
            value = residual(give(flat))
            return _vector(value if isinstance(value, Tensor) else torch.from_numpy(_numbers(value, "residual")))

        def given() -> Jacobian:
            if jac is None:
                return DifferenceJacobian()
            return GivenJacobian(lambda x: torch.from_numpy(_numbers(jac(give(x)), "jac")))

        return cls(layout.flatten(tensor)[None], by_numpy, given, give, False)

    def shown(self, callback: Callable[[Event], object]) -> Callable[[Event], object]:
        def show(event: Event) -> object:
            x, gradient = self.give(event.x[0].clone()), self.give(event.gradient[0].clone())
            return callback(dataclasses.replace(event, x=x, gradient=gradient))

        return show


def _numbers(value: Any, name: str) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise BadInputError(f"{name} returned {array.dtype}: return real numbers")
    return np.array(array, dtype=np.float64)


def _vector(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise BadInputError(
            f"residual returned {type(value).__name__}: return a torch tensor, or pass x0 as a NumPy array"
        )
    if not value.is_floating_point():
        raise BadInputError(f"residual returned {value.dtype}: return real numbers")
    return value.reshape(-1)


def _resolve(method: str | Method) -> tuple[Method, str]:
    if isinstance(method, Method):
        return method, type(method.step).__name__
    if not isinstance(method, str):
        raise BadInputError(f"method must be a name or a Method, not {type(method).__name__}")
    found = registry.find(method)
    built = found.build() if found.builds is Builds.METHOD else None
    if not isinstance(built, Method) or Need.RESIDUAL not in built.needs:
        raise IncompatibleError(f"{method!r} is no method of least squares: use one of {', '.join(AUTO)}")
    return built, method


def _measure(objective: SquaresObjective, point: Point) -> float:
    r, jacobian = objective.linearization(point.x)
    scale = _scale(jacobian, point.x[0])
    if r.norm() <= 4 * torch.finfo(r.dtype).eps * scale:
        return 0.0
    return largest_cosine(jacobian, r)


def _scale(jacobian: Tensor, x: Tensor) -> Tensor:
    """Return the largest ``|J_i| |x_i|``: how much the residuals move when a variable changes by itself."""
    moves = torch.linalg.vector_norm(jacobian, dim=0) * x.abs()
    return moves.max() if moves.numel() else jacobian.new_zeros(())


def _certify(form: _Form, outcome: Outcome, tol: float) -> tuple[Status, Certificate]:
    """Recompute residuals and Jacobian at the returned point and at the start."""
    x, x0 = outcome.point.x, form.start
    again = SquaresObjective(form.function, _finest(form), work=Work())
    r, jacobian = again.linearization(x)
    lengths, first = (torch.linalg.vector_norm(j, dim=0) for j in (jacobian, again.linearization(x0)[1]))
    eps = torch.finfo(r.dtype).eps
    size, scale = float(r.double().norm()), float(_scale(jacobian, x[0]))
    extra = {"loss": size**2 / 2, "||r||": size}
    floor = eps**0.75 * scale
    if size <= floor:
        return Status.CONVERGED_RESIDUAL, Certificate("||r||_2", size, floor, extra)
    idle = (lengths <= eps**0.75 * first) & (lengths * x[0].abs() <= eps * scale) & (first > 0)
    value = largest_cosine(jacobian, r)
    extra["variables without influence"] = float(idle.sum())
    certificate = Certificate("largest |J_i' r| / (|J_i| |r|)", value, float(tol), extra)
    if bool(idle.any()):
        certificate = Certificate("the same, with a variable that lost its influence", 1.0, float(tol), extra)
    if certificate.holds:
        return Status.CONVERGED_GRADIENT, certificate
    status = outcome.status
    return (Status.FAILED_STAGNATION if status.group == "converged" else status), certificate


def _finest(form: _Form) -> Jacobian:
    made = form.jacobian()
    return DifferenceJacobian(near=float("inf")) if isinstance(made, DifferenceJacobian) else made
