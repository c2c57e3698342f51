"""The harness's clock: it runs while a contestant works and stands still while the harness evaluates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """A stopwatch that waits for the device before it is read.

    Args:
        device: Where the contestant works; on an accelerator every reading waits for the queue to empty.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device if device is not None else torch.device("cpu")
        self._elapsed = 0.0
        self._started: float | None = None

    def now(self) -> float:
        """Return a reading of the wall clock, in seconds, once everything asked of the device is done."""
        self.synchronize()
        return time.perf_counter()

    def synchronize(self) -> None:
        """Wait until the device has finished all queued work."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    @property
    def seconds(self) -> float:
        """Seconds counted so far, without waiting for the device."""
        running = time.perf_counter() - self._started if self._started is not None else 0.0
        return self._elapsed + running

    def start(self) -> None:
        """Let the clock run (again)."""
        if self._started is None:
            self._started = self.now()

    def stop(self) -> float:
        """Stop the clock and return the seconds counted so far."""
        if self._started is not None:
            self._elapsed += self.now() - self._started
            self._started = None
        return self._elapsed

    @contextmanager
    def stopped(self) -> Iterator[float]:
        """Stop the clock while the body runs; yields the seconds counted so far."""
        was_running = self._started is not None
        yield self.stop()
        if was_running:
            self.start()


class Share:
    """How a step divides into the oracle (loss and gradient) and the method.

    On an accelerator, waiting for the device twice a step would slow the contestant, so only every
    ``every``-th step is divided there.

    Args:
        clock: The clock of the run.
        device: Where the steps run.
        every: Interval of divided steps on an accelerator.
    """

    def __init__(self, clock: Clock, device: torch.device, every: int = 16) -> None:
        self._clock = clock
        self._every = 1 if device.type == "cpu" else every
        self.oracle = 0.0
        self.method = 0.0

    def divides(self, step: int) -> bool:
        """Whether this step (counted from 0) is divided."""
        return step % self._every == 0

    @property
    def value(self) -> float | None:
        """The method's share of the divided steps, in ``[0, 1]``; ``None`` before the first."""
        total = self.oracle + self.method
        return self.method / total if total > 0 else None
