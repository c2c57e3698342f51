"""Search spaces: what a tuner may vary, declared beside each recipe."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence


class Range(abc.ABC):
    """One dimension of a search space, as a map from the unit interval."""

    @abc.abstractmethod
    def at(self, u: float) -> float | int | str:
        """Return the value at ``u`` in ``[0, 1)``."""


@dataclasses.dataclass(frozen=True)
class LogUniform(Range):
    """Real numbers, uniform in the logarithm."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """Return ``low * (high / low) ** u``, rounded to four digits so that it can be typed again."""
        return float(f"{math.exp(math.log(self.low) + u * math.log(self.high / self.low)):.3e}")


@dataclasses.dataclass(frozen=True)
class Uniform(Range):
    """Real numbers, uniform."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """Return ``low + u (high - low)``, rounded to four digits."""
        return float(f"{self.low + u * (self.high - self.low):.3e}")


@dataclasses.dataclass(frozen=True)
class Choice(Range):
    """One of a few values."""

    values: Sequence[float | int | str]

    def at(self, u: float) -> float | int | str:
        """Return the value whose cell holds ``u``."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]
