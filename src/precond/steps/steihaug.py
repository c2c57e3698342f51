"""A trust region whose subproblem is solved by truncated conjugate gradients."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Advance, BadInputError, Direction, Need, Objective, Operator, Point, Search, Status

MUCH = 0.1
"""Share of the gradient's length that convinces where values may be rounding of terms that cancel."""


@dataclasses.dataclass
class SteihaugState:
    """The running region.

    Attributes:
        radius: Bound on the length of the next step, ``[batch]``, float64; NaN before it is known.
        size: The largest absolute value of the objective so far, ``[batch]``, float64.
    """

    radius: Tensor
    size: Tensor


@dataclasses.dataclass(frozen=True)
class Truncated:
    """A step in a trust region.

    Attributes:
        step: ``d``, shape ``[1, n]``.
        decrease: What the model promises, ``-g'd - d'Bd / 2``.
        boundary: The step ends on the boundary.
    """

    step: Tensor
    decrease: float
    boundary: bool


@final
@dataclasses.dataclass(frozen=True)
class Steihaug(Search[SteihaugState]):
    """Newton's step within ``||d||_M <= radius``, by conjugate gradients that stop at the boundary (Steihaug 1983).

    The preconditioner ``P = M^-1`` shapes the region. Inner iterations stop at ``||g + B d|| <= min(1/2, sqrt(||g||))
    ||g||``, at the boundary, or at non-positive curvature, which they follow to the boundary. With ``rho`` the decrease
    over the model's: below 1/4 the radius is divided by 4, above 3/4 on the boundary it is doubled, and a step is
    accepted above ``accept`` (J. Nocedal, S. Wright, *Numerical Optimization*, 2006, algorithms 4.1 and 7.2). Where
    values differ by rounding alone, a step that shortens the gradient is accepted; where they differ by no more than
    rounding of the largest value so far, as of terms that cancel, one that shortens it to a tenth.

    Attributes:
        radius: The first radius; ``None`` for twice the length of the first preconditioned gradient, so that a
            preconditioner which is nearly the inverse takes Newton's step first.
        largest: The largest radius.
        accept: Smallest ratio of decreases of an accepted step.
        cap: Largest relative residual of an inner solve.
        max_trials: Largest number of trials in one iteration.
    """

    radius: float | None = 1.0
    largest: float = 1000.0
    accept: float = 0.15
    cap: float = 0.5
    max_trials: int = 60

    needs: ClassVar[Need] = Need.REPLAY | Need.OPERATOR

    def __post_init__(self) -> None:
        """Check the radii."""
        if not (self.largest > 0 if self.radius is None else 0 < self.radius <= self.largest):
            raise BadInputError(f"0 < radius <= largest is needed, not {self.radius} and {self.largest}")
        if not 0 <= self.accept < 0.25:
            raise BadInputError(f"accept must lie in [0, 1/4), not be {self.accept}")

    def init(self, like: Tensor) -> SteihaugState:
        """Start with the first radius."""
        first = math.nan if self.radius is None else self.radius
        radius = torch.full((like.shape[0],), first, dtype=torch.float64, device=like.device)
        return SteihaugState(radius, torch.zeros_like(radius))

    def advance(self, state: SteihaugState, point: Point, direction: Direction, objective: Objective) -> Advance:
        """Shrink the region until a trial is good enough."""
        hessian, loss = objective.hessian(point.x), float(point.loss)
        state.size.clamp_(min=abs(loss))
        noise, rough = (10 * torch.finfo(point.loss.dtype).eps * size for size in (abs(loss), float(state.size)))
        radius, broken, level = float(state.radius), False, False
        if math.isnan(radius):
            radius = min(2 * math.sqrt(max(0.0, -_dot(point.gradient, direction(0.0, point.gradient)))), self.largest)
        for _ in range(self.max_trials):
            found = truncated_newton(hessian, point.gradient, direction, radius, self.cap)
            x = point.x + found.step
            if torch.equal(x, point.x):
                break
            trial = objective.point(x)
            new = float(trial.loss)
            finite = math.isfinite(new) and bool(torch.isfinite(trial.gradient).all())
            broken |= not finite
            level = finite and abs(loss - new) <= noise and found.decrease <= noise
            rho = (loss - new) / found.decrease if finite and found.decrease > 0 else -math.inf
            if level:
                rho = 1.0 if trial.gradient.norm() < point.gradient.norm() else -math.inf
            elif finite and rho <= self.accept and max(abs(loss - new), found.decrease) <= rough:
                rho = 1.0 if trial.gradient.norm() <= MUCH * point.gradient.norm() else rho
            if rho < 0.25:
                radius /= 4
            elif rho > 0.75 and found.boundary:
                radius = min(2 * radius, self.largest)
            if rho > self.accept:
                state.radius.fill_(radius)
                return Advance(trial)
        if broken:
            return Advance(point, Status.FAILED_NON_FINITE)
        return Advance(point, Status.FAILED_STAGNATION if level else Status.FAILED_LINE_SEARCH)


def truncated_newton(hessian: Operator, g: Tensor, direction: Direction, radius: float, cap: float) -> Truncated:
    """Minimize ``g'd + d'Bd / 2`` within ``||d||_M <= radius`` by conjugate gradients.

    Args:
        hessian: ``B``.
        g: The gradient, ``[1, n]``.
        direction: Maps ``(0, v)`` to ``-M^-1 v``.
        radius: The bound.
        cap: Largest relative residual.

    Returns:
        The step.
    """
    size = float(g.norm())
    goal = min(cap, math.sqrt(size)) * size
    d, bd, r = torch.zeros_like(g), torch.zeros_like(g), g
    p = direction(0.0, r)
    rz = -_dot(r, p)
    dd, dp, pp = 0.0, 0.0, rz  # in the metric M: lengths of d and p, and their product
    for _ in range(max(1, 2 * g.shape[1])):
        bp = hessian.matvec(p)
        curvature = _dot(p, bp)
        alpha = rz / curvature if curvature > 0 else math.inf
        ahead = dd + 2 * alpha * dp + alpha * alpha * pp if math.isfinite(alpha) else math.inf
        if not ahead < radius * radius:
            tau = _to_boundary(dd, dp, pp, radius)
            return _truncated(g, d + tau * p, bd + tau * bp, True)
        d, bd, r = d + alpha * p, bd + alpha * bp, r + alpha * bp
        if float(r.norm()) <= goal:
            break
        z = direction(0.0, r)
        before, rz = rz, -_dot(r, z)
        beta = rz / before
        p = z + beta * p
        dd, dp, pp = ahead, beta * (dp + alpha * pp), rz + beta * beta * pp
    return _truncated(g, d, bd, False)


def _truncated(g: Tensor, d: Tensor, bd: Tensor, boundary: bool) -> Truncated:
    return Truncated(d, -_dot(g, d) - _dot(d, bd) / 2, boundary)


def _to_boundary(dd: float, dp: float, pp: float, radius: float) -> float:
    """Return the positive ``tau`` with ``||d + tau p||_M = radius``."""
    if not pp > 0:
        return 0.0
    gap = max(0.0, radius * radius - dd)
    root = math.sqrt(dp * dp + pp * gap)
    return gap / (dp + root) if dp + root > 0 else 0.0


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vecdot(a, b)[0])
