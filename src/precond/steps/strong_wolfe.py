"""A line search for the strong Wolfe conditions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import final

from torch import Tensor

from precond.core import Advance, BadInputError, NoState, Objective, Point, Search
from precond.steps.line import Line, Trial, cubic_minimizer, first_step, secant_minimizer


@final
@dataclasses.dataclass(frozen=True)
class StrongWolfe(Search[NoState]):
    """Bracket and zoom until ``f(x + a d) <= f + c1 a g'd`` and ``|g(x + a d)'d| <= c2 |g'd|``.

    Nocedal & Wright, Numerical Optimization (2006), Algorithms 3.5 and 3.6, with cubic interpolation. Where values of
    the objective differ by rounding alone, slopes decide instead (the approximate Wolfe conditions of Hager & Zhang
    2005). Trials that are not finite count as too far. When the trials run out, the lowest point that satisfies the
    first condition is taken.

    Attributes:
        c1: Sufficient decrease.
        c2: Curvature; below 1 and above ``c1``.
        max_trials: Largest number of evaluations in one search.
    """

    c1: float = 1e-4
    c2: float = 0.9
    max_trials: int = 40

    def __post_init__(self) -> None:
        """Check the constants."""
        if not 0 < self.c1 < self.c2 < 1:
            raise BadInputError(f"the Wolfe conditions need 0 < c1 < c2 < 1, not c1={self.c1}, c2={self.c2}")

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def advance(
        self, state: NoState, point: Point, direction: Callable[[float], Tensor], objective: Objective
    ) -> Advance:
        """Move along the direction to a point that satisfies the strong Wolfe conditions."""
        d = direction(0.0)
        line = Line(objective, point, d)
        start, noise = line.start, line.noise
        low, high = start, None  # an interval that holds acceptable points; `low` is its best end
        alpha = first_step(point.gradient, d)
        broken = False
        for _ in range(self.max_trials):
            trial = line.at(alpha)
            broken |= not trial.finite
            rounding = abs(trial.loss - start.loss) <= noise
            decreased = rounding or trial.loss <= start.loss + self.c1 * alpha * start.slope
            if decreased and trial.finite and abs(trial.slope) <= -self.c2 * start.slope:
                return Advance(trial.point)
            better = trial.slope <= 0 if rounding else trial.loss < low.loss
            previous = low
            if not (trial.finite and decreased and better):
                high = trial
            else:
                if high is None:
                    high = low if trial.slope >= 0 else None
                elif trial.slope * (high.alpha - low.alpha) >= 0:
                    high = low
                low = trial
            alpha = self._beyond(previous, low) if high is None else self._between(low, high, rounding)
            if alpha == low.alpha or (high is not None and alpha == high.alpha):
                break
        if low.loss < start.loss or abs(low.slope) < abs(start.slope):  # not a step of no length
            return Advance(low.point)
        return Advance(point, line.failure(alpha, broken))

    @staticmethod
    def _beyond(previous: Trial, last: Trial) -> float:
        """Return a longer step: where the slope would vanish, between 2 and 10 times as far."""
        guess = secant_minimizer(previous, last) if previous.slope < last.slope else math.inf
        return min(max(guess, 2 * last.alpha), 10 * last.alpha)

    @staticmethod
    def _between(low: Trial, high: Trial, rounding: bool) -> float:
        """Return a step inside the interval, a tenth away from its ends."""
        width = high.alpha - low.alpha
        if not high.finite:
            return low.alpha + 0.1 * width
        guess = secant_minimizer(low, high) if rounding else cubic_minimizer(low, high)
        share = (guess - low.alpha) / width if width else math.nan
        return low.alpha + width * (share if 0.1 <= share <= 0.9 else 0.5)
