"""Preconditioners of earlier matrices of a sequence, and when another is worth its setup."""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import Any

import torch
from torch import Tensor

from precond.core import Operator, Preconditioner, Work
from precond.solvers.systems.held import Held

_room = 6
_remembered = 60
_alike = 3
_recent = 0.3  # weight of the last fresh solve in what one is known to cost
_cheap = 0.05  # of the seconds of a fresh solve: a setup that costs less is made for each matrix
_tries = 10  # setups in a row that served one system each, before reuse has another chance


@dataclasses.dataclass
class Entry:
    """A preconditioner that was set up for one matrix of the sequence.

    Attributes:
        held: The preconditioner with its state.
        made: Number of the system it was set up for.
        image: What the matrix made of a random vector; ``None`` before the setup.
        used: Number of the system it served last.
    """

    held: Held
    made: int = 0
    image: Tensor | None = None
    used: int = 0


class Shelf:
    """A preconditioner set up for several matrices of a sequence, of which the nearest one is applied.

    How near two matrices are is judged by what they make of one random vector. What a system will cost without a setup
    is taken to be what those at the most similar distances have cost, for each digit that the residual has to lose. It
    gets a setup of its own when that is more than a setup and a fresh solve; and when it is more than usual and going
    without has cost a setup more than the cheapest would since the last setup (the ski-rental
    rule: R. M. Karp, *On-line algorithms versus off-line algorithms*, 1992). In the middle of a solve a setup is made
    when that solve has cost as much as a setup and a fresh solve. Where setups did not serve for a second system, each
    system gets its own for a while; where one costs next to nothing, always. When the shelf is full, what has not
    served for longest makes room.

    Args:
        part: The preconditioner.

    Attributes:
        digits: What the residual of the current system has to lose, as a power of ten; whoever solves it sets this.
    """

    def __init__(self, part: Preconditioner[Any]) -> None:
        self.part = part
        self.entries: list[Entry] = []
        self.setups, self.setup, self.fresh = 0, 0.0, 0.0
        self.rent, self.futile, self.served = 0.0, 0, True
        self.reuses: list[tuple[float, float]] = []
        self.digits = 1.0
        self._probe: Tensor | None = None

    @property
    def budget(self) -> float:
        """Seconds after which a solve without a setup has cost more than with one."""
        return self.setup + self.fresh * self.digits if self.part.refreshes else math.inf

    def image(self, operator: Operator, like: Tensor, work: Work) -> Tensor | None:
        """Return what the matrix makes of the random vector; ``None`` for a part without setup."""
        if not self.part.refreshes:
            return None
        probe = self._probe
        if probe is None or (probe.shape[1], probe.dtype, probe.device) != (like.shape[1], like.dtype, like.device):
            generator = torch.Generator().manual_seed(0)
            probe = torch.randn(1, like.shape[1], generator=generator, dtype=torch.float64).to(like.device, like.dtype)
            self._probe, self.entries = probe, []
        work.matvecs += 1
        with torch.no_grad():
            return operator.matvec(probe)

    def choose(self, image: Tensor | None, number: int) -> tuple[Entry, float]:
        """Return the entry for the next system, which is stale where it is to be set up, and its distance.

        Args:
            image: Of the matrix, from `image`.
            number: Of the system.

        Returns:
            The entry, and the relative distance of its matrix.
        """
        if image is None:
            self.entries = self.entries or [Entry(Held(self.part))]
            self.entries[0].held.stale = True  # no setup: it looks at every matrix
            return self.entries[0], 0.0
        if not self.entries:
            return self.room(), 0.0
        distances = self._distances(image)
        distance = min(distances)
        entry = self.entries[distances.index(distance)]
        if distance > 0 and self.due(distance):
            return self.room(), 0.0
        return entry, distance

    def _distances(self, image: Tensor) -> list[float]:
        """Return how far the matrix of this image is from those of the entries, relatively."""
        known = [image if entry.image is None else entry.image for entry in self.entries]
        away = torch.linalg.vector_norm(torch.cat(known).sub_(image), dim=1)
        size = torch.linalg.vector_norm(image).clamp(min=torch.finfo(away.dtype).tiny)
        relative: list[float] = (away / size).tolist()
        return [math.inf if entry.image is None else far for entry, far in zip(self.entries, relative, strict=True)]

    def due(self, distance: float) -> bool:
        """Whether a system at this distance from the nearest matrix should have a setup of its own."""
        if 2 <= self.futile < _tries or self.setup <= _cheap * self.fresh * self.digits:
            return True
        if not self.reuses:
            return False
        alike = sorted(self.reuses, key=lambda reuse: abs(math.log((reuse[0] + 1e-300) / distance)))[:_alike]
        predicted = statistics.median(cost for _, cost in alike)
        if self.futile < _tries and predicted * self.digits > self.setup + self.fresh * self.digits:
            return True
        if self.rent < self.setup:
            return False
        return predicted > statistics.median(cost for _, cost in self.reuses) or len(self.entries) == 1

    def room(self) -> Entry:
        """Return an entry to be set up: a new one, or the one that has not served for longest."""
        if len(self.entries) < _room:
            self.entries.append(Entry(Held(self.part)))
            return self.entries[-1]
        entry = min(self.entries, key=lambda entry: entry.used)
        entry.held.stale, entry.image = True, None
        return entry

    def renewed(self, entry: Entry, image: Tensor | None, number: int, setup: float, seconds: float) -> None:
        """Note a setup and the seconds of the solve with it."""
        self.futile = 0 if self.served else (self.futile + 1) % (_tries + 1)
        entry.made = entry.used = number
        entry.image = image
        self.setups, self.setup = self.setups + 1, setup
        rate = seconds / self.digits
        self.fresh = rate if self.setups == 1 else self.fresh + _recent * (rate - self.fresh)
        self.rent, self.served = 0.0, False

    def reused(self, entry: Entry, number: int, distance: float, seconds: float, served: bool) -> None:
        """Note the seconds of a solve without a setup, and whether it ended well."""
        self.reuses = [*self.reuses[1 - _remembered :], (distance, seconds / self.digits)]
        self.rent += seconds - self.digits * min(cost for _, cost in self.reuses)
        self.served |= served
        entry.used = number
