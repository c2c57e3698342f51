"""Levenberg-Marquardt steps damped by powers of the residual and its gradient."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Advance, BadInputError, Direction, Need, Objective, Point, Search, Status


def damping(point: Point, xi: float, omega: float, eta: float) -> float:
    """Return ``xi ||h||^eta + omega ||J'h||^eta`` for the objective ``||h||^2 / 2``."""
    residual = math.sqrt(2 * max(0.0, float(point.loss)))
    return float(xi * residual**eta + omega * float(point.gradient.norm()) ** eta)


@dataclasses.dataclass
class HolderState:
    """State of `Holder`.

    Attributes:
        steps: Steps so far, ``[batch]``, float64.
    """

    steps: Tensor


@final
@dataclasses.dataclass(frozen=True)
class Holder(Search[HolderState]):
    """The full step shifted by ``xi ||h||^eta + omega ||J'h||^eta``; the weight moves from the first to the second.

    ``xi = max(0.95^k, 1e-10)`` after ``k`` steps (0.95 while ``0.95^k >= 0.01``; 1 at first) and ``omega = 1 - xi``;
    fixed ones where they are given (M. Ahookhosh, F. Aragon Artacho, R. Fleming, P. Vuong, *Local convergence of the
    Levenberg-Marquardt method under Holder metric subregularity*, 2019, arXiv 1703.07461). There is no test: the method
    is local.

    Attributes:
        eta: The exponent.
        xi: Weight of the residual; ``None`` adapts both.
        omega: Weight of the gradient.
    """

    eta: float = 1.2
    xi: float | None = None
    omega: float = 0.0

    needs: ClassVar[Need] = Need.REPLAY | Need.RESIDUAL
    shifts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.eta > 0 or self.omega < 0 or (self.xi is not None and self.xi < 0):
            raise BadInputError("eta must be positive, xi and omega not negative")

    def init(self, like: Tensor) -> HolderState:
        """Start to count."""
        return HolderState(torch.zeros(like.shape[0], dtype=torch.float64, device=like.device))

    def advance(self, state: HolderState, point: Point, direction: Direction, objective: Objective) -> Advance:
        """Take the step."""
        k = int(state.steps[0])
        xi, omega = self.xi, self.omega
        if xi is None:
            power = 0.95**k
            xi = 1.0 if k == 0 else 0.95 if power >= 1e-2 else max(power, 1e-10)
            omega = 1 - xi
        x = point.x + direction(damping(point, xi, omega, self.eta))
        if torch.equal(x, point.x):
            return Advance(point, Status.FAILED_STAGNATION)
        trial = objective.point(x)
        if not bool(torch.isfinite(trial.gradient).all()):
            return Advance(point, Status.FAILED_NON_FINITE)
        state.steps.add_(1)
        return Advance(trial)


@dataclasses.dataclass
class HolderRegionState:
    """State of `HolderRegion`.

    Attributes:
        factor: What the damping is multiplied by, ``[batch]``, float64.
        level: The average of past objectives that a step is compared with, ``[batch]``, float64; NaN at first.
    """

    factor: Tensor
    level: Tensor


@final
@dataclasses.dataclass(frozen=True)
class HolderRegion(Search[HolderRegionState]):
    """Steps shifted by ``mu = max(least, factor (xi ||h||^eta + (1 - xi) ||J'h||^eta))``, accepted by a ratio (LMTR).

    The decrease is that from a running average ``D`` of the objectives, ``D <- (1 - theta) psi + theta D``, and the
    model's is ``(d'(J'J + mu I) d + mu ||d||^2) / 2``. A ratio below ``accept`` multiplies the factor by ``2^p`` at the
    ``p``-th failure; one of ``good`` or more halves it, down to 1e-3. The globalized method of the paper of `Holder`.

    Attributes:
        eta: The exponent.
        xi: Weight of the residual.
        factor: The first factor.
        theta: Memory of the average.
        accept: Smallest ratio of an accepted step.
        good: Ratio from which on the factor is halved.
        least: Smallest damping.
        retries: Failures in one iteration.
    """

    eta: float = 1.2
    xi: float = 0.95
    factor: float = 1e-2
    theta: float = 0.95
    accept: float = 1e-4
    good: float = 0.9
    least: float = 1e-8
    retries: int = 30

    needs: ClassVar[Need] = Need.REPLAY | Need.RESIDUAL
    shifts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (self.eta > 0 and 0 <= self.xi <= 1 and 0 <= self.theta < 1 and self.factor > 0):
            raise BadInputError("eta and factor must be positive, xi lie in [0, 1], theta in [0, 1)")

    def init(self, like: Tensor) -> HolderRegionState:
        """Start with the first factor."""
        full = torch.full((like.shape[0],), self.factor, dtype=torch.float64, device=like.device)
        return HolderRegionState(full, torch.full_like(full, math.nan))

    def advance(self, state: HolderRegionState, point: Point, direction: Direction, objective: Objective) -> Advance:
        """Raise the factor until the ratio is good enough."""
        loss, level, factor = float(point.loss), float(state.level), float(state.factor)
        level = loss if math.isnan(level) else level
        hessian = objective.hessian(point.x)
        size = damping(point, self.xi, 1 - self.xi, self.eta)
        broken = False
        for failures in range(self.retries + 1):
            mu = max(self.least, factor * size)
            d = direction(mu)
            x = point.x + d
            if torch.equal(x, point.x):
                break
            bent, length = (float(torch.linalg.vecdot(d, v)[0]) for v in (hessian.matvec(d), d))
            predicted = (bent + 2 * mu * length) / 2
            new = float(objective.value(x))
            broken |= not math.isfinite(new)
            ratio = (level - new) / predicted if math.isfinite(new) and predicted > 0 else -math.inf
            if ratio >= self.accept:
                trial = objective.point(x)
                if bool(torch.isfinite(trial.gradient).all()):
                    state.factor.fill_(max(factor / 2, 1e-3) if ratio >= self.good else factor)
                    state.level.fill_((1 - self.theta) * new + self.theta * level)
                    return Advance(trial)
                broken = True
            factor = min(factor * 2.0 ** (failures + 1), 1e100)
        return Advance(point, Status.FAILED_NON_FINITE if broken else Status.FAILED_STAGNATION)
