"""A trust region whose subproblem is solved exactly, by the shift that puts the step on its boundary."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Advance, BadInputError, Direction, Need, Objective, Point, Search, Status

ROUGH, MUCH = 1e3, 0.1
"""Differences of losses up to this many times what is taken for noise may be noise, too, as of residuals that cancel:
there a step that the losses refuse is taken if the decrement falls to this share."""


@dataclasses.dataclass
class TrustRegionState:
    """The running region.

    Attributes:
        radius: Bound on the length of the next step in the preconditioner's metric, ``[batch]``, float64; zero before
            the first step.
        shift: The shift that the last step had, ``[batch]``, float64.
    """

    radius: Tensor
    shift: Tensor


@final
@dataclasses.dataclass(frozen=True)
class TrustRegion(Search[TrustRegionState]):
    """The step ``d = -(B + shift M)^-1 g`` with ``||d||_M <= radius``; ``shift`` is zero or ``||d||_M = radius``.

    The shift comes from Hebden's iteration, to a tenth of the radius (More 1978). The first radius is
    ``factor ||x||_M`` (``factor`` at zero), and at most the length of the first trial. With ``rho`` the decrease over
    the model's: below 0.25 the radius becomes a share in [0.1, 0.5] of ``min(radius, 10 ||d||)``, above 0.75 (or
    without a shift) it becomes ``2 ||d||``.

    Attributes:
        factor: The first radius.
        accept: Smallest ``rho`` of an accepted step.
        max_trials: Largest number of trials in one iteration.
    """

    factor: float = 100.0
    accept: float = 1e-4
    max_trials: int = 100

    needs: ClassVar[Need] = Need.REPLAY | Need.RESIDUAL
    shifts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the first radius."""
        if not (self.factor > 0 and math.isfinite(self.factor)):
            raise BadInputError(f"the factor of the first radius must be positive and finite, not {self.factor}")

    def init(self, like: Tensor) -> TrustRegionState:
        """Start without a radius."""
        zero = torch.zeros(like.shape[0], dtype=torch.float64, device=like.device)
        return TrustRegionState(zero, zero.clone())

    def advance(self, state: TrustRegionState, point: Point, direction: Direction, objective: Objective) -> Advance:
        """Shrink the region until a trial is good enough."""
        hessian, loss = objective.hessian(point.x), float(point.loss)
        noise = 1000 * torch.finfo(point.loss.dtype).eps * abs(loss)
        first = float(state.radius) == 0
        radius = float(state.radius) or self.factor * (_length(direction, point.x) or 1.0)
        shift, broken = float(state.shift), False
        for _ in range(self.max_trials):
            step, shift, length = self._solve(direction, radius, shift)
            if first:
                radius, first = min(radius, length), False
            full = point.x + step
            x = objective.within(full)
            if x is not full:
                step = x - point.x
            slope = float(torch.linalg.vecdot(point.gradient, step)[0])
            predicted = -slope - float(torch.linalg.vecdot(step, hessian.matvec(step))[0]) / 2
            if torch.equal(x, point.x) or not math.isfinite(length):
                break
            new = float(objective.value(x))
            if abs(predicted) <= noise and abs(new - loss) <= noise:
                return self._polish(state, point, x, radius, shift, -slope, direction, objective)
            decrease = loss - new
            ratio = decrease / predicted if predicted > 0 and math.isfinite(new) else -math.inf
            trial = objective.point(x) if ratio >= self.accept else None
            if trial is not None and not bool(torch.isfinite(trial.gradient).all()):
                trial, ratio = None, -math.inf
            if ratio < self.accept and max(abs(predicted), abs(decrease)) <= ROUGH * noise:
                polished = self._polish(state, point, x, radius, shift, -slope, direction, objective, MUCH)
                if polished.failure is None:
                    return polished
            broken |= not math.isfinite(ratio)
            radius, shift = self._update(radius, shift, length, ratio, slope, decrease)
            if trial is not None:
                state.radius.fill_(radius)
                state.shift.fill_(shift)
                return Advance(trial)
        return Advance(point, Status.FAILED_NON_FINITE if broken else Status.FAILED_LINE_SEARCH)

    @staticmethod
    def _update(
        radius: float, shift: float, length: float, ratio: float, slope: float, decrease: float
    ) -> tuple[float, float]:
        if ratio <= 0.25:
            share = 0.5
            if decrease < 0 or not math.isfinite(ratio):
                share = 0.5 * slope / (slope + decrease) if math.isfinite(decrease) else 0.1
            share = max(share, 0.1)
            return share * min(radius, 10 * length), shift / share
        if shift == 0 or ratio >= 0.75:
            return 2 * length, shift / 2
        return radius, shift

    @staticmethod
    def _solve(direction: Direction, radius: float, shift: float) -> tuple[Tensor, float, float]:
        """Return the step, its shift, and its length, at most 1.1 radii."""
        step = direction(0.0)
        length = _length(direction, step)
        if length <= 1.1 * radius:
            return step, 0.0, length
        low, high = _newton(direction, step, length, radius, 0.0), math.inf
        if not (math.isfinite(low) and low > 0):
            low = 0.0
        shift = max(shift, low) or 1e-3
        for _ in range(60):
            step = direction(shift)
            length = _length(direction, step)
            if abs(length - radius) <= 0.1 * radius:
                break
            if length > radius:
                low = max(low, shift)
            else:
                high = min(high, shift)
                low = low if low < high else 0.0  # a bound from steps that are mostly rounding is none
            new = _newton(direction, step, length, radius, shift)
            inside = low < new < high
            shift = new if inside else (10 * max(low, 1e-30) if high == math.inf else math.sqrt(max(low, 1e-40) * high))
        return step, shift, length

    @staticmethod
    def _polish(
        state: TrustRegionState, point: Point, x: Tensor, radius: float, shift: float, decrement: float,
        direction: Direction, objective: Objective, share: float = 0.95,
    ) -> Advance:  # fmt: skip
        """Accept a point whose loss says nothing if the decrement falls to a share of it."""
        trial = objective.point(x)
        left = -float(torch.linalg.vecdot(trial.gradient, direction(shift, trial.gradient))[0])
        if not left < share * decrement:
            return Advance(point, Status.FAILED_STAGNATION)
        state.radius.fill_(radius)
        state.shift.fill_(shift / 10)
        return Advance(trial)


def _length(direction: Direction, v: Tensor) -> float:
    return math.sqrt(max(0.0, float(torch.linalg.vecdot(v, direction.metric(v))[0])))


def _newton(direction: Direction, step: Tensor, length: float, radius: float, shift: float) -> float:
    """Return Newton's next shift on ``1 / radius - 1 / ||d(shift)||`` (Hebden)."""
    scaled = direction.metric(step)
    slope = float(torch.linalg.vecdot(scaled, direction(shift, scaled))[0])  # -d' M (B + shift M)^-1 M d
    return shift - (length - radius) / radius * length * length / slope if slope else math.nan
