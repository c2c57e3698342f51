"""One line that tells a person who waits how a long run is getting on."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import deque
from typing import TextIO

logger = logging.getLogger(__name__)

QUIET = 5.0
"""Seconds before the first line."""
OFTEN = 0.5
"""Seconds between lines on a terminal."""
SELDOM = 10.0
"""Seconds between lines of a log."""
_window = 50


class ProgressLine:
    """Writes iteration, measure, rate and an estimate of the time left; to a terminal, or to the log elsewhere.

    The estimate extends the decrease of the measure's logarithm over the last iterations to the tolerance.

    Args:
        goal: The measure that ends the run.
        limit: Largest number of iterations.
        stream: Where lines go if it is a terminal; standard error unless given.
    """

    def __init__(self, goal: float, limit: int, stream: TextIO | None = None) -> None:
        self._goal, self._limit = goal, limit
        self._stream = sys.stderr if stream is None else stream
        self._terminal = bool(getattr(self._stream, "isatty", bool)())
        self._began = self._said = time.monotonic()
        self._recent: deque[tuple[float, float]] = deque(maxlen=_window)
        self._shown = 0

    def see(self, iteration: int, measure: float) -> None:
        """Take note of an iteration; write when it is time to."""
        now = time.monotonic()
        self._recent.append((now, measure))
        wait = OFTEN if self._terminal else SELDOM
        if now - self._began < QUIET or now - self._said < wait:
            return
        self._said = now
        line = self.line(iteration, measure)
        if self._terminal:
            self._stream.write("\r" + line.ljust(self._shown))
            self._stream.flush()
            self._shown = len(line)
        else:
            logger.info("%s", line)

    def line(self, iteration: int, measure: float) -> str:
        """Return the line for an iteration."""
        (first, before), (last, _) = self._recent[0], self._recent[-1]
        took = last - first
        text = f"iteration {iteration}, {measure:.2e} (to reach {self._goal:.1e})"
        if len(self._recent) < 2 or not took > 0:
            return text
        rate = (len(self._recent) - 1) / took
        left = (self._limit - iteration) / rate
        if self._goal > 0 and 0 < measure < before < math.inf:
            left = min(left, max(0.0, math.log(measure / self._goal)) * took / math.log(before / measure))
        return f"{text}, {rate:.1f} iterations/s, about {_duration(left)} left"

    def end(self) -> None:
        """Leave the line, where one was written."""
        if self._shown:
            self._stream.write("\r" + " " * self._shown + "\r")
            self._stream.flush()
            self._shown = 0


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
