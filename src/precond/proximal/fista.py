"""The proximal gradient method, plain and accelerated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import final

from torch import Tensor

from precond.core import Composite, CompositeIteration, Spot, Standing, Status
from precond.proximal.majorize import estimate


@final
@dataclasses.dataclass(frozen=True)
class ProximalGradient(CompositeIteration):
    """``x <- prox(x - grad f(x) / L)``.

    Attributes:
        shrink: Factor of ``L`` after each step where ``L`` is not known, so that it can fall, too.
    """

    shrink: float = 0.9

    def iterate(self, problem: Composite, x0: Tensor, tolerance: float) -> Iterator[Standing]:
        """Yield a point with its gradient after each step."""
        spot = problem.spot(x0)
        yield Standing.at(spot)
        bound = estimate(problem, x0, spot.gradient)
        while True:
            x = bound.step(problem, problem.penalty, spot.x, spot.loss, spot.gradient)
            if x is None:
                yield Standing.at(spot, failure=Status.FAILED_LINE_SEARCH)
                return
            spot = problem.spot(x)
            yield Standing.at(spot, {"lipschitz": bound.lipschitz})
            if not bound.known:
                bound.lipschitz *= self.shrink


@final
@dataclasses.dataclass(frozen=True)
class FISTA(CompositeIteration):
    """The accelerated proximal gradient method (Beck and Teboulle, 2009) with adaptive restart.

    Momentum starts afresh where the step and the last move disagree (O'Donoghue and Candes, 2015, the gradient scheme).

    Attributes:
        restart: Whether it does.
    """

    restart: bool = True

    def iterate(self, problem: Composite, x0: Tensor, tolerance: float) -> Iterator[Standing]:
        """Yield a point after each step; its own measure is the length of the step times ``L``."""
        spot = problem.spot(x0)
        yield Standing.at(spot)
        bound = estimate(problem, x0, spot.gradient)
        x, y, t = x0, spot, 1.0
        while True:
            new = bound.step(problem, problem.penalty, y.x, y.loss, y.gradient)
            if new is None:
                yield Standing.at(problem.spot(x), failure=Status.FAILED_LINE_SEARCH)
                return
            step = y.x - new
            own = bound.lipschitz * float(step.norm())
            yield Standing(new, own, Once(problem, new), {"lipschitz": bound.lipschitz})
            if self.restart and bool(step.dot(new - x) > 0):
                t = 1.0
            grown = (1 + math.sqrt(1 + 4 * t * t)) / 2
            ahead = new + ((t - 1) / grown) * (new - x)
            x, t = new, grown
            y = problem.spot(ahead)


class Once:
    """Evaluates a point when it is first asked for, and remembers.

    Args:
        problem: The problem.
        x: The point.
    """

    def __init__(self, problem: Composite, x: Tensor) -> None:
        self._problem, self._x = problem, x
        self._spot: Spot | None = None

    def __call__(self) -> Spot:
        """Return everything of first order at the point."""
        if self._spot is None:
            self._spot = self._problem.spot(self._x)
        return self._spot
