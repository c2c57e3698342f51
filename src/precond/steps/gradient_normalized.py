"""Regularization by the gradient norm over an adaptive radius."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Advance, BadInputError, Direction, Objective, Point, Search, Status
from precond.math.machine.scalars import scalars


@dataclasses.dataclass
class GradientNormalizedState:
    """The running estimate.

    Attributes:
        gamma: Estimate of the gradient-normalized smoothness at the current point, ``[batch]``, float64.
    """

    gamma: Tensor


@final
@dataclasses.dataclass(frozen=True)
class GradientNormalized(Search[GradientNormalizedState]):
    """The full step of a system shifted by ``lambda = ||g|| / gamma`` (Semenov, Jaggi & Doikov, arXiv 2506.13710).

    A trial is taken when ``f - f+ >= ||g+||^2 / (8 lambda)``, with the gradient of the trial itself; then ``gamma``
    doubles, and otherwise it is halved. As ``||d|| <= gamma`` where the matrix is positive semidefinite, ``gamma`` is a
    trust radius that knows no smoothness class. Where the decrease is below 1e-10 of ``|f|``, the test is
    ``-<g+, d> >= ||g+||^2 / (4 lambda)``.

    Attributes:
        gamma: First radius.
        max_trials: Largest number of trials in one iteration.
        floor: Added to the radius; what keeps the shift below ``||g|| / floor``.
    """

    gamma: float = 1.0
    max_trials: int = 40
    floor: float = 1e-8

    shifts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the radius."""
        if not (self.gamma > 0 and math.isfinite(self.gamma)):
            raise BadInputError(f"gamma must be positive and finite, not {self.gamma}")

    def init(self, like: Tensor) -> GradientNormalizedState:
        """Start from the first radius."""
        return GradientNormalizedState(
            torch.full((like.shape[0],), self.gamma, dtype=torch.float64, device=like.device)
        )

    def advance(
        self, state: GradientNormalizedState, point: Point, direction: Direction, objective: Objective
    ) -> Advance:
        """Halve the radius until a trial passes."""
        loss, norm = scalars(point.loss, torch.linalg.vector_norm(point.gradient))
        gamma, broken, rounding = float(state.gamma), False, False
        for _ in range(self.max_trials):
            shift = norm / (gamma + self.floor)
            step = direction(shift)
            trial = objective.point(point.x + step)
            new, length, along = torch.stack(
                [trial.loss.to(step), trial.gradient.norm(), torch.linalg.vecdot(trial.gradient, step)[0]]
            ).tolist()
            finite = math.isfinite(new) and math.isfinite(length)
            broken |= not finite
            rounding = abs(loss - new) <= 1e-10 * abs(loss)
            passed = -along >= length**2 / (4 * shift) if rounding else loss - new >= length**2 / (8 * shift)
            moved = new < loss or length < norm
            if finite and passed and moved:
                state.gamma.fill_(max(2 * gamma, self.floor / 10))
                return Advance(trial)
            gamma /= 2
        if broken:
            return Advance(point, Status.FAILED_NON_FINITE)
        return Advance(point, Status.FAILED_STAGNATION if rounding else Status.FAILED_LINE_SEARCH)
