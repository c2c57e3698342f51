"""What a solver returns: a point, a status with its remedy, a certificate, and the work it took."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from precond.core.work import Work


class Status(enum.Enum):
    """How a solve ended: ``(group, reason, remedy)``. Only ``certify`` can make it CONVERGED."""

    CONVERGED_RESIDUAL = ("converged", "the residual is within the tolerance", "")
    CONVERGED_GRADIENT = ("converged", "the gradient is within the tolerance", "")
    CONVERGED_SADDLE = (
        "converged",
        "the gradient is within the tolerance, at a point where the Hessian has a negative eigenvalue: no minimum",
        "start elsewhere",
    )
    CONVERGED_NORMAL = ("converged", "the normal-equations residual is within the tolerance", "")
    CONVERGED_BACKWARD = ("converged", "the backward error is within the tolerance", "")
    CONVERGED_KKT = ("converged", "the optimality conditions are within the tolerance", "")
    CONVERGED_STATIONARY = ("converged", "the distance to stationarity is within the tolerance", "")
    CONVERGED_FIXED_POINT = ("converged", "the residual of the fixed point is within the tolerance", "")
    PROVEN_INFEASIBLE = (
        "proven",
        "no point meets the constraints, and a certificate of that was verified from the problem",
        "relax or remove constraints",
    )
    PROVEN_UNBOUNDED = (
        "proven",
        "the dual problem has no solution, and a certificate of that was verified from the problem",
        "the objective falls forever wherever the constraints can be met: add bounds",
    )
    STOPPED_STEPS = (
        "stopped",
        "the limit on iterations was reached",
        "raise max_iterations or use a better preconditioner",
    )
    STOPPED_TIME = ("stopped", "the limit on time was reached", "allow more time or use a better preconditioner")
    STOPPED_USER = ("stopped", "the callback asked to stop", "")
    STOPPED_INTERRUPT = ("stopped", "interrupted from the keyboard; the best point so far is returned", "")
    FAILED_INDEFINITE_OPERATOR = ("failed", "the operator is not positive definite", "use method='minres' or 'gmres'")
    FAILED_INDEFINITE_PRECONDITIONER = (
        "failed",
        "the preconditioner is not positive definite",
        "use method='gmres' or another preconditioner",
    )
    FAILED_BREAKDOWN = ("failed", "the iteration broke down before reaching the tolerance", "try another method or x0")
    FAILED_STAGNATION = (
        "failed",
        "no further progress is possible in this precision",
        "use float64, a looser tolerance or another preconditioner, or precond.lstsq where the matrix may be singular",
    )
    FAILED_INCONSISTENT = (
        "failed",
        "no solution exists: the matrix is singular, and the residual is orthogonal to its range",
        "use precond.lstsq for a least-squares solution, or check the right-hand side",
    )
    FAILED_NON_FINITE = (
        "failed",
        "a value that is not finite appeared",
        "check the problem for overflow or NaN, scale it",
    )
    FAILED_LINE_SEARCH = (
        "failed",
        "the line search found no acceptable step",
        "check the gradient, or loosen the tolerance",
    )

    FAILED_GRADIENT = (
        "failed",
        "the gradient that was given is not that of the function",
        "correct jac, or leave it out",
    )
    FAILED_INFEASIBLE = (
        "failed",
        "the violation of the constraints has a stationary point here that is not zero",
        "check that the constraints can be met together, or start elsewhere",
    )
    FAILED_SINGULAR_JACOBIAN = (
        "failed",
        "the gradients of the constraints are linearly dependent here",
        "remove redundant constraints, start elsewhere, or use method='auto', which regularizes",
    )
    FAILED_UNBOUNDED = (
        "failed",
        "the objective fell far below its starting scale and no minimum is in sight",
        "check its sign, or add a penalty or bounds that keep it from falling forever",
    )

    @property
    def group(self) -> str:
        """``"converged"``, ``"proven"``, ``"stopped"`` or ``"failed"``."""
        return str(self.value[0])

    @property
    def reason(self) -> str:
        """One clause that says what happened."""
        return str(self.value[1])

    @property
    def remedy(self) -> str:
        """What a user can do about it; empty when nothing is wrong."""
        return str(self.value[2])


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Quantities recomputed from the problem at the returned point, in the highest precision at hand.

    Attributes:
        quantity: What was measured, in words ("relative residual ||b - Ax|| / ||b||").
        value: Its value (the worst, over several right-hand sides).
        bound: The value asked for.
        extra: Other recomputed quantities by name ("backward error", "loss").
    """

    quantity: str
    value: float
    bound: float
    extra: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the bound is met."""
        return bool(self.value <= self.bound)


@dataclasses.dataclass(frozen=True)
class Member:
    """The outcome of one system of a batch.

    Attributes:
        status: How its run ended.
        certificate: What was recomputed from the system at its solution.
        iterations: Iterations of the method, or steps of refinement after a factorization.
    """

    status: Status
    certificate: Certificate
    iterations: int

    @property
    def converged(self) -> bool:
        """Whether the certificate holds."""
        return self.status.group == "converged"

    @property
    def message(self) -> str:
        """One line: what happened, the certificate, and the remedy if there is one."""
        return _message(self.status, self.certificate)


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of ``solve``, ``lstsq`` or ``minimize``.

    Attributes:
        x: The solution, in the form the problem was given in.
        status: How the run ended.
        certificate: What was recomputed from the problem at ``x``.
        work: Counted work.
        iterations: Iterations of the method.
        method: Name of the method, with its preconditioner and why they were chosen when they were.
        history: The method's own residual or gradient norm after each iteration.
        multipliers: Of constraints, ``lambda`` in ``f + lambda' c``, one for each; ``None`` without constraints.
        members: Of a batch of systems, the outcome of each; status and certificate are then those of the worst, and
            iterations the most that one took.
        note: What else was found out, such as a derivative that is wrong; empty when there is nothing.
    """

    x: Any
    status: Status
    certificate: Certificate
    work: Work
    iterations: int
    method: str
    history: list[float] = dataclasses.field(default_factory=list, repr=False)
    multipliers: Any = None
    members: tuple[Member, ...] = dataclasses.field(default=(), repr=False)
    note: str = ""

    @property
    def converged(self) -> bool:
        """Whether the certificate holds."""
        return self.status.group == "converged"

    @property
    def message(self) -> str:
        """One line: what happened, the certificate, and the remedy if there is one."""
        return _message(self.status, self.certificate, self.note)


def _message(status: Status, certificate: Certificate, note: str = "") -> str:
    text = f"{status.reason}: {certificate.quantity} = {certificate.value:.2e} (asked {certificate.bound:.2e})"
    return "; ".join(part for part in (text, status.remedy, note) if part)
