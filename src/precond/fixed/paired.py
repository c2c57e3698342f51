"""Two iterations in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import final

from torch import Tensor

from precond.core import FixedPointIteration, Footing
from precond.fixed.anderson import Anderson
from precond.fixed.halpern import Halpern


@final
@dataclasses.dataclass(frozen=True)
class Paired(FixedPointIteration):
    """Two iterations from the same start, one evaluation each in turn: what one is bad at, the other may be good at.

    Attributes:
        one: The first.
        other: The second.
    """

    one: FixedPointIteration = Anderson()
    other: FixedPointIteration = Halpern()

    def iterate(self, operator: Callable[[Tensor], Tensor], x0: Tensor) -> Iterator[Footing]:
        """Yield points of both, in turn."""
        yield from (
            footing
            for both in zip(self.one.iterate(operator, x0), self.other.iterate(operator, x0), strict=True)
            for footing in both
        )
