"""How a state tensor rests between steps."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

from torch import Tensor


class Storage(abc.ABC):
    """A codec for floating-point state tensors; counters and flags are never encoded."""

    encodes: ClassVar[bool] = True
    """Whether the resting form differs from the working one (False lets a driver work in place)."""

    @abc.abstractmethod
    def allocate(self, like: Tensor) -> Tensor:
        """Return the resting form of a fresh (working) tensor, values included."""

    @abc.abstractmethod
    def decode(self, resting: Tensor, like: Tensor) -> Tensor:
        """Return the working form of ``resting``, with the dtype of ``like``."""

    @abc.abstractmethod
    def encode(self, working: Tensor, resting: Tensor) -> None:
        """Write ``working`` into ``resting``, in place."""


@dataclasses.dataclass(frozen=True)
class Full(Storage):
    """State rests as it works: nothing is encoded, nothing is copied."""

    encodes: ClassVar[bool] = False

    def allocate(self, like: Tensor) -> Tensor:
        """Return ``like`` itself."""
        return like

    def decode(self, resting: Tensor, like: Tensor) -> Tensor:
        """Return ``resting`` itself."""
        return resting

    def encode(self, working: Tensor, resting: Tensor) -> None:
        """Copy only when the two are different tensors."""
        if working is not resting:
            resting.copy_(working)
