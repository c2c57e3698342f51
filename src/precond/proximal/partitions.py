"""How variables are divided into fixed blocks."""

from __future__ import annotations

import abc
import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import Coordinates


class Partition(abc.ABC):
    """A rule that divides ``n`` variables into blocks of a size; the last one may be smaller."""

    @abc.abstractmethod
    def order(self, coordinates: Coordinates, size: int) -> Tensor:
        """Return all variables in the order in which they are cut into blocks, ``[n]``."""

    def blocks(self, coordinates: Coordinates, size: int) -> list[Tensor]:
        """Return the blocks, each ascending.

        Args:
            coordinates: The function, which knows its curvatures.
            size: Variables of a block.

        Returns:
            Places of the variables, block by block.
        """
        return [block.sort().values for block in self.order(coordinates, size).split(size)]


@final
@dataclasses.dataclass(frozen=True)
class Neighbours(Partition):
    """Blocks of neighbours, in the order that the variables have."""

    def order(self, coordinates: Coordinates, size: int) -> Tensor:
        """Return the variables as they are."""
        return torch.arange(coordinates.x.numel(), device=coordinates.x.device)


@final
@dataclasses.dataclass(frozen=True)
class Sorted(Partition):
    """Blocks of similar curvature, for which one number bounds a block's curvature best.

    Attributes:
        dominating: Sort by the dominating diagonal instead of the curvatures.
    """

    dominating: bool = False

    def order(self, coordinates: Coordinates, size: int) -> Tensor:
        """Return the variables by falling curvature."""
        key = coordinates.dominating() if self.dominating else coordinates.curvatures()
        return key.argsort(descending=True, stable=True)


@final
@dataclasses.dataclass(frozen=True)
class Averaged(Partition):
    """Blocks of similar average curvature: the largest go with the smallest.

    Attributes:
        dominating: Sort by the dominating diagonal instead of the curvatures.
    """

    dominating: bool = False

    def order(self, coordinates: Coordinates, size: int) -> Tensor:
        """Return the largest, the smallest, the next largest, the next smallest."""
        falling = Sorted(self.dominating).order(coordinates, size)
        mixed = torch.empty_like(falling)
        half = (len(falling) + 1) // 2
        mixed[0::2] = falling[:half]
        mixed[1::2] = falling[half:].flip(0)
        return mixed
