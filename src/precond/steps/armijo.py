"""Backtracking to sufficient decrease."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import final

from torch import Tensor

from precond.core import Advance, NoState, Objective, Point, Search
from precond.steps.line import Line, Trial

_fallen = 1e35


@final
@dataclasses.dataclass(frozen=True)
class Armijo(Search[NoState]):
    """Shrink the step from 1 until ``f(x + a d) <= f + c1 a g'd`` (Armijo 1966), by quadratic interpolation.

    Where values of the objective differ by rounding alone, a step that shortens the gradient is accepted. A step of 1
    along which the objective falls as fast at its end as at its start, as no strictly convex function does, is made
    ten times as long, as often as that goes on, down to -1e35.

    Attributes:
        c1: Sufficient decrease.
        max_trials: Largest number of evaluations in one search.
    """

    c1: float = 1e-4
    max_trials: int = 40

    @property
    def whole(self) -> float:
        """A step of length 1 comes first."""
        return self.c1

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def advance(
        self, state: NoState, point: Point, direction: Callable[[float], Tensor], objective: Objective
    ) -> Advance:
        """Move along the direction to a point of sufficient decrease."""
        line = Line(objective, point, direction(0.0))
        start, alpha = line.start, 1.0
        broken = False
        for _ in range(self.max_trials):
            trial = line.at(alpha)
            broken |= not trial.finite
            if trial.finite:
                if trial.loss <= start.loss + self.c1 * alpha * start.slope and trial.loss < start.loss:
                    return Advance(self._farther(line, trial).point if alpha == 1.0 else trial.point)
                if abs(trial.loss - start.loss) <= line.noise and _shorter(trial.point, point):
                    return Advance(trial.point)
            alpha = self._shorter_step(start, trial)
        return Advance(point, line.failure(alpha, broken))

    @staticmethod
    def _farther(line: Line, trial: Trial) -> Trial:
        """Return the last of trials, each ten times as far, along which the objective falls as fast as at the start."""
        start = line.start
        while trial.loss > -_fallen * max(1.0, abs(start.loss)):
            if trial.loss > start.loss + 0.99 * trial.alpha * start.slope or trial.slope > 0.99 * start.slope:
                break
            longer = line.at(10 * trial.alpha)
            if not (longer.finite and longer.loss < trial.loss + 0.9 * 9 * trial.alpha * start.slope):
                break
            trial = longer
        return trial

    @staticmethod
    def _shorter_step(start: Trial, trial: Trial) -> float:
        """Return the minimizer of the parabola through the start, its slope and the trial, within ``[0.1, 0.5]``."""
        curvature = trial.loss - start.loss - start.slope * trial.alpha
        share = -start.slope * trial.alpha / (2 * curvature) if math.isfinite(curvature) and curvature > 0 else 0.1
        return trial.alpha * min(max(share, 0.1), 0.5)


def _shorter(new: Point, old: Point) -> bool:
    return bool(new.gradient.norm() < old.gradient.norm())
