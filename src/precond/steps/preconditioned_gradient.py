"""Gradient steps in the metric of the preconditioner, plain and accelerated, with the constant found on the way."""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from precond.core import Advance, BadInputError, Direction, Objective, Point, Search, Status

_limit = 60  # doublings in one step


@dataclasses.dataclass
class GradientStepState:
    """State of `GradientStep`.

    Attributes:
        constant: ``M``, the largest curvature met, relative to the preconditioner; ``[batch]``.
    """

    constant: Tensor


@final
@dataclasses.dataclass(frozen=True)
class GradientStep(Search[GradientStepState]):
    """``x+ = x - P g / M`` with the least ``M`` of a sequence for which ``f(x+) <= f(x) - <g, P g> / (2 M)``.

    ``M`` doubles until it holds, and is halved after each success, as in *Polynomial preconditioning for gradient
    methods* (N. Doikov, A. Rodomanov, 2023, arXiv 2301.13194): with ``alpha B^-1 <= P <= beta B^-1`` and
    ``mu B <= f'' <= L B``, linear convergence at the rate ``1 - alpha mu / (beta L)``.

    Attributes:
        first: The first ``M``.
    """

    first: float = 1.0

    def __post_init__(self) -> None:
        """Check the constant."""
        if not self.first > 0:
            raise BadInputError(f"the first constant must be positive, not {self.first}")

    def init(self, like: Tensor) -> GradientStepState:
        """Start at the first constant."""
        return GradientStepState(torch.full_like(like[:, 0], self.first))

    def advance(self, state: GradientStepState, point: Point, direction: Direction, objective: Objective) -> Advance:
        """Move to a point of sufficient decrease."""
        found, constant = backtrack(point, direction(0.0), objective, float(state.constant[0]))
        if found is None:
            return Advance(point, Status.FAILED_LINE_SEARCH)
        state.constant.fill_(constant / 2)
        return Advance(found)


@dataclasses.dataclass
class FastGradientState:
    """State of `FastGradient`.

    Attributes:
        constant: ``M``, ``[batch]``.
        before: The point before, ``[batch, n]``.
        weight: ``t`` of the momentum sequence, ``[batch]``; zero before the first step.
    """

    constant: Tensor
    before: Tensor
    weight: Tensor


@final
@dataclasses.dataclass(frozen=True)
class FastGradient(Search[FastGradientState]):
    """The fast gradient method in the metric of the preconditioner: a `GradientStep` from ``y = x + theta (x - x_)``.

    ``theta = (t - 1) / t+`` with ``t+ = (1 + sqrt(1 + 4 t^2)) / 2``, or ``(1 - sqrt(q)) / (1 + sqrt(q))`` where the
    inverse condition number ``q`` is given. A step that would raise the objective is taken again from ``x`` without
    momentum, and ``t`` starts over (B. O'Donoghue, E. Candes, *Adaptive restart for accelerated gradient schemes*,
    2015).

    Attributes:
        first: The first ``M``.
        q: The inverse condition number, if it is known.
    """

    first: float = 1.0
    q: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.first > 0 or (self.q is not None and not 0 < self.q <= 1):
            raise BadInputError(f"first > 0 and 0 < q <= 1 are needed, not {self.first} and {self.q}")

    def init(self, like: Tensor) -> FastGradientState:
        """Start without momentum."""
        return FastGradientState(
            torch.full_like(like[:, 0], self.first), torch.zeros_like(like), torch.zeros_like(like[:, 0])
        )

    def advance(self, state: FastGradientState, point: Point, direction: Direction, objective: Objective) -> Advance:
        """Extrapolate, step, and start over where that raised the objective."""
        t = float(state.weight[0])
        after = (1 + math.sqrt(1 + 4 * t * t)) / 2
        theta = 0.0
        if t > 0:
            theta = (t - 1) / after if self.q is None else (1 - math.sqrt(self.q)) / (1 + math.sqrt(self.q))
        found, constant = None, float(state.constant[0])
        if theta > 0:
            y = objective.point(point.x + theta * (point.x - state.before))
            found, constant = backtrack(y, direction(0.0, y.gradient), objective, constant)
            if found is not None and not float(found.loss) <= float(point.loss) + _noise(found, point):
                found, after = None, 1.0
        if found is None:
            found, constant = backtrack(point, direction(0.0), objective, float(state.constant[0]))
        if found is None:
            return Advance(point, Status.FAILED_LINE_SEARCH)
        state.before.copy_(point.x)
        state.weight.fill_(after)
        state.constant.fill_(constant / 2)
        return Advance(found)


def backtrack(point: Point, d: Tensor, objective: Objective, constant: float) -> tuple[Point | None, float]:
    """Return the point ``x + d / M`` of sufficient decrease with its ``M``, from ``constant`` upwards.

    Where the decrease is not far above rounding, the slope at the new point decides: for a quadratic the
    decrease is sufficient where it is not positive.

    Args:
        point: Where to start.
        d: The direction ``-P g``, shape ``[1, n]``.
        objective: The objective.
        constant: The first ``M``.

    Returns:
        The point (``None`` if there is none) and ``M``.
    """
    slope = float((point.gradient * d).sum())
    if not slope < 0:
        return None, constant
    for _ in range(_limit):
        trial = objective.point(point.x + d / constant)
        decrease, noise = -slope / (2 * constant), _noise(point, trial)
        if decrease > 10 * noise:
            enough = float(point.loss) - float(trial.loss) >= decrease - noise
        else:
            enough = float((trial.gradient * d).sum()) <= -1e-8 * slope
        if enough:
            return trial, constant
        constant *= 2
    return None, constant


def _noise(first: Point, second: Point) -> float:
    """Return the rounding error of a difference of two values."""
    return 10 * torch.finfo(first.loss.dtype).eps * (abs(float(first.loss)) + abs(float(second.loss)))
