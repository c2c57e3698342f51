"""The curve of a run: what was measured on the way, thinned so that a long run stays small."""

from __future__ import annotations

import math
from collections.abc import Mapping

COLUMNS = ("step", "seconds", "gradients", "metric")


class Curve:
    """Measurements on the way, the first time the target was met, and the best value.

    When more than ``limit`` points have been kept, every other one is dropped and from then on only every
    second point is kept, and so on. Target and best value look at every point, kept or not.

    Args:
        target: Value of the metric that counts as solved.
        limit: The largest number of points kept; even.
    """

    def __init__(self, target: float, limit: int = 240) -> None:
        self._target = target
        self._limit = limit
        self._stride = 1
        self._seen = 0
        self._points: list[tuple[float, float, float, float]] = []
        self._last: tuple[float, float, float, float] | None = None
        self.best: float | None = None
        self.steps_to_target: int | None = None
        self.seconds_to_target: float | None = None
        self.work_at_target: float | None = None

    def record(self, step: int, seconds: float, gradients: float, metric: float, work: float | None = None) -> None:
        """Record one measurement.

        Args:
            step: Steps taken so far.
            seconds: Seconds on the clock.
            gradients: Gradient evaluations, or products with the matrix.
            metric: The metric; what is not finite is kept in the curve but meets no target.
            work: What tuning counts, when it is not seconds or steps.
        """
        point = (float(step), seconds, float(gradients), metric)
        if math.isfinite(metric):
            self.best = metric if self.best is None else min(self.best, metric)
            if metric <= self._target and self.steps_to_target is None:
                self.steps_to_target, self.seconds_to_target, self.work_at_target = step, seconds, work
        if self._seen % self._stride == 0:
            self._points.append(point)
            if len(self._points) > self._limit:
                self._points = self._points[::2]
                self._stride *= 2
        self._seen += 1
        self._last = point

    @property
    def final(self) -> float | None:
        """The metric of the last measurement; ``None`` before the first."""
        return self._last[3] if self._last is not None else None

    @property
    def last_step(self) -> int | None:
        """The step of the last measurement; ``None`` before the first."""
        return int(self._last[0]) if self._last is not None else None

    def columns(self) -> Mapping[str, list[float]]:
        """Return the kept points and the last one as columns of equal length."""
        points = list(self._points)
        if self._last is not None and (not points or points[-1] != self._last):
            points.append(self._last)
        step, seconds, gradients, metric = (
            (list(column) for column in zip(*points, strict=True)) if points else ([],) * 4
        )
        return {
            "step": step,
            "seconds": [round(value, 6) for value in seconds],
            "gradients": gradients,
            "metric": [float(f"{value:.6g}") for value in metric],
        }
