"""Damping by the gain ratio, as in the method of Levenberg and Marquardt."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Advance, BadInputError, Direction, Need, Objective, Point, Search, Status


@dataclasses.dataclass
class LevenbergMarquardtState:
    """The running damping.

    Attributes:
        damping: Shift of the next trial, ``[batch]``, float64.
        growth: What the next failure multiplies it by, ``[batch]``, float64.
    """

    damping: Tensor
    growth: Tensor


@final
@dataclasses.dataclass(frozen=True)
class LevenbergMarquardt(Search[LevenbergMarquardtState]):
    """The full step of a damped system, the damping ruled by the gain ratio (Nielsen 1999).

    ``rho`` is the decrease of the objective divided by that of its quadratic model with the Hessian that the objective
    provides. A trial with ``rho > accept`` is taken, and the damping is multiplied by
    ``max(1/3, 1 - (2 rho - 1)^3)``; otherwise by ``nu``, which then doubles, and starts again from 2 after a success.

    Where the decrease that the model promises is below rounding, the full step is taken as long as it shortens the
    gradient, measured by the inverse of the damped system.

    Attributes:
        damping: First damping, a multiple of the preconditioner's metric.
        accept: Smallest gain ratio of an accepted step.
        max_trials: Largest number of trials in one iteration.
        geodesic: Add half of the geodesic acceleration ``a = -(B + shift M)^-1 J' r_vv`` (Transtrum & Sethna,
            arXiv 1201.5885) where the objective knows the second derivative of its residuals along the step and
            ``||a|| <= avmax ||d||``; otherwise the trial counts as failed.
        avmax: The bound on the acceleration.
    """

    damping: float = 1e-3
    accept: float = 1e-3
    max_trials: int = 60
    geodesic: bool = False
    avmax: float = 0.75

    needs: ClassVar[Need] = Need.REPLAY | Need.RESIDUAL
    shifts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the damping."""
        if not (self.damping > 0 and math.isfinite(self.damping)):
            raise BadInputError(f"the first damping must be positive and finite, not {self.damping}")

    def init(self, like: Tensor) -> LevenbergMarquardtState:
        """Start from the first damping."""
        full = torch.full((like.shape[0],), self.damping, dtype=torch.float64, device=like.device)
        return LevenbergMarquardtState(full, torch.full_like(full, 2.0))

    def advance(
        self, state: LevenbergMarquardtState, point: Point, direction: Direction, objective: Objective
    ) -> Advance:
        """Raise the damping until a trial is good enough."""
        hessian = objective.hessian(point.x)
        loss = float(point.loss)
        noise = 1000 * torch.finfo(point.loss.dtype).eps * abs(loss)
        damping, growth = float(state.damping), float(state.growth)
        broken = False
        for _ in range(self.max_trials):
            step = direction(damping)
            full = point.x + step
            x = objective.within(full)
            if x is not full:
                step = x - point.x
            slope, bend = torch.stack(
                [torch.linalg.vecdot(point.gradient, step)[0], torch.linalg.vecdot(step, hessian.matvec(step))[0]]
            ).tolist()
            predicted = -slope - bend / 2
            bent = self._bent(point, step, damping, direction, objective)
            if bent is not None:
                if bent is not step:
                    x = objective.within(point.x + bent)
                if torch.equal(x, point.x):
                    return Advance(point, Status.FAILED_NON_FINITE if broken else Status.FAILED_STAGNATION)
                new = float(objective.value(x))
                broken |= not math.isfinite(new)
                level = abs(new - loss) <= noise
                if abs(predicted) <= noise and math.isfinite(new):
                    if damping > float(state.damping) and not level:
                        break  # only the damping made the step so short
                    return self._polish(state, point, x, -slope, damping, direction, objective)
                ratio = (loss - new) / predicted if predicted > 0 else -1.0
                if math.isfinite(new) and ratio > self.accept and new < loss:
                    trial = objective.point(x)
                    if bool(torch.isfinite(trial.gradient).all()):
                        factor = max(1 / 3, 1 - (2 * min(ratio, 1.0) - 1) ** 3)
                        state.damping.fill_(max(damping * factor, 1e-32))
                        state.growth.fill_(2.0)
                        return Advance(trial)
                    broken = True
            damping, growth = damping * growth, growth * 2
            if not damping < 1e100:
                break
        return Advance(point, Status.FAILED_NON_FINITE if broken else Status.FAILED_LINE_SEARCH)

    def _bent(
        self, point: Point, step: Tensor, damping: float, direction: Direction, objective: Objective
    ) -> Tensor | None:
        """Return the step with its acceleration; ``None`` when that is too large for the step to be trusted."""
        bend = objective.acceleration(point.x, step) if self.geodesic else None
        if bend is None:
            return step
        acceleration = direction(damping, bend)
        small = bool(acceleration.norm() <= self.avmax * step.norm())
        return step + acceleration / 2 if small else None

    def _polish(
        self,
        state: LevenbergMarquardtState,
        point: Point,
        x: Tensor,
        decrement: float,
        damping: float,
        direction: Direction,
        objective: Objective,
    ) -> Advance:
        trial = objective.point(x)
        left = -float(torch.linalg.vecdot(trial.gradient, direction(damping, trial.gradient))[0])
        if not left < 0.95 * decrement:
            return Advance(point, Status.FAILED_STAGNATION)
        state.damping.fill_(max(damping / 10, 1e-32))
        return Advance(trial)
