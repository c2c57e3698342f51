"""The objective along a line, in Python numbers, as line searches see it."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from precond.core import Objective, Point, Status
from precond.math.machine.scalars import scalars


@dataclasses.dataclass(frozen=True)
class Trial:
    """One evaluation along the line.

    Attributes:
        alpha: The step.
        loss: The objective there.
        slope: Its derivative along the direction.
        point: The point with its gradient.
    """

    alpha: float
    loss: float
    slope: float
    point: Point

    @property
    def finite(self) -> bool:
        """Whether the objective and its slope are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.slope)


class Line:
    """The objective along ``point + alpha direction``.

    Args:
        objective: The oracle.
        point: Where the line starts.
        direction: Where it goes, shape ``[1, n]``.

    Attributes:
        start: The trial at ``alpha = 0``, which costs nothing.
        noise: Differences of the objective below this are rounding: 100 units of ``|f|``.
    """

    def __init__(self, objective: Objective, point: Point, direction: Tensor) -> None:
        self._objective = objective
        self._direction = direction
        self.start = self._trial(0.0, point)
        self.noise = 100 * torch.finfo(point.loss.dtype).eps * abs(self.start.loss)

    def at(self, alpha: float) -> Trial:
        """Evaluate value and gradient at one step."""
        return self._trial(alpha, self._objective.point(self.start.point.x.add(self._direction, alpha=alpha)))

    def failure(self, alpha: float, broken: bool) -> Status:
        """Return why no step was found.

        Args:
            alpha: The last step tried.
            broken: Some trial was not finite.

        Returns:
            The status of the failed search.
        """
        if broken:
            return Status.FAILED_NON_FINITE
        stuck = -alpha * self.start.slope <= self.noise
        return Status.FAILED_STAGNATION if stuck else Status.FAILED_LINE_SEARCH

    def _trial(self, alpha: float, point: Point) -> Trial:
        loss, slope = scalars(point.loss, torch.linalg.vecdot(point.gradient, self._direction))
        return Trial(alpha, loss, slope, point)


def first_step(gradient: Tensor, direction: Tensor) -> float:
    """Return the first trial: 1, or ``min(1, 1 / ||g||_1)`` along plain steepest descent, which has no scale."""
    if torch.equal(direction, -gradient):
        return min(1.0, 1.0 / max(float(gradient.abs().sum()), torch.finfo(gradient.dtype).tiny))
    return 1.0


def cubic_minimizer(a: Trial, b: Trial) -> float:
    """Return the minimizer of the cubic through two trials and their slopes; NaN when there is none.

    Nocedal & Wright, Numerical Optimization (2006), eq. 3.59.
    """
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.alpha - b.alpha)
    radicand = d1 * d1 - a.slope * b.slope
    if not radicand >= 0:
        return math.nan
    d2 = math.copysign(math.sqrt(radicand), b.alpha - a.alpha)
    denominator = b.slope - a.slope + 2 * d2
    return b.alpha - (b.alpha - a.alpha) * (b.slope + d2 - d1) / denominator if denominator else math.nan


def secant_minimizer(a: Trial, b: Trial) -> float:
    """Return the zero of the slope, linear between two trials; NaN when they agree."""
    change = b.slope - a.slope
    return b.alpha - b.slope * (b.alpha - a.alpha) / change if change else math.nan
