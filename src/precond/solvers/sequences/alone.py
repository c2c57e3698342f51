"""Systems so small that to remember anything of them costs more than it saves."""

from __future__ import annotations

import dataclasses

SMALL = 2e-3
"""Seconds of a system from which on what a sequence remembers is little beside it."""
_bookkeeping = 5e-4  # seconds of a system, below which remembering takes longer than solving
_trials = 3  # systems that are solved for themselves first, of which the fastest counts
_young = 8  # systems until the ways of a sequence have had their trials
_recent = 0.2  # weight of the last system
_again = 32  # systems after which the other one of the two has another chance


@dataclasses.dataclass
class Alone:
    """Whether small systems are better solved each for itself: by what both have cost lately.

    Attributes:
        together: Seconds that a system has taken with what the sequence remembers; ``None`` where none was.
        apart: Seconds that one has taken for itself.
        seen: Systems so far.
        tried: How many of them were solved for themselves.
    """

    together: float | None = None
    apart: float | None = None
    seen: int = 0
    tried: int = 0

    @property
    def due(self) -> bool:
        """Whether the next system is to be solved for itself."""
        if self.together is None or self.together > SMALL:
            return False
        if self.apart is None or self.tried < _trials:
            return True
        other = self.seen % _again == 0
        if self.apart < _bookkeeping:
            return not other
        return self.seen >= _young and (self.apart < self.together) is not other

    def note(self, seconds: float, *, apart: bool) -> None:
        """Note what a system has taken, and whether it was solved for itself."""
        self.seen += 1
        self.tried += apart
        if not apart:
            self.together = _mixed(self.together, seconds, first=self.seen <= _young)
        elif self.tried <= _trials:
            self.apart = min(seconds, seconds if self.apart is None else self.apart)
        else:
            self.apart = _mixed(self.apart, seconds, first=False)


def _mixed(before: float | None, seconds: float, *, first: bool) -> float:
    return seconds if before is None or first else before + _recent * (seconds - before)
