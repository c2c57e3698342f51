"""Whether the values of an objective change along a run as the gradients that came with them say."""

from __future__ import annotations

import torch

from precond.core import Point
from precond.math.machine.scalars import scalars

OFF = 0.05
"""Relative error from which on a change is not that of the slopes."""
SEEN = 1e6
"""A change tells something if it is this many rounding errors."""
LAST = 2
"""Steps that tell something and must agree, counted from the end."""


class Trapezoids:
    """Compares the change of the objective over each step with the mean of the slopes at its ends.

    The error of that rule falls with the cube of the step if the gradients are right, so the last steps decide whose
    change is not lost in rounding. It costs no evaluation.
    """

    def __init__(self) -> None:
        self._before: Point | None = None
        self._off: list[float] = []

    @property
    def agree(self) -> bool:
        """Whether the last steps that tell something support the gradients; if not, nothing is proven."""
        return len(self._off) == LAST and max(self._off) <= OFF

    def see(self, point: Point) -> None:
        """Take note of the next point of a run."""
        before, self._before = self._before, point
        if before is None or before.x is point.x:
            return
        d = point.x - before.x
        change, first, second, value = scalars(
            point.loss - before.loss, torch.linalg.vecdot(before.gradient, d), torch.linalg.vecdot(point.gradient, d),
            point.loss,
        )  # fmt: skip
        largest = max(abs(change), abs(first) + abs(second))
        level = max(abs(value), abs(value - change), largest)
        if largest > SEEN * torch.finfo(point.loss.dtype).eps * level:
            self._off = [*self._off[1 - LAST :], abs(change - (first + second) / 2) / largest]
