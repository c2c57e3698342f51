"""A constant multiple of the learning rate."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

from torch import Tensor

from precond.core import Evidence, Factor, NoState, Scope


@final
@dataclasses.dataclass(frozen=True)
class Scaled(Factor[NoState]):
    """Multiply the update by a constant, so that the methods of a `Route` can share one learning rate and its schedule.

    Attributes:
        by: The factor.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    by: float = 1.0

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def factor(self, state: NoState, evidence: Evidence, direction: Tensor) -> float:
        """Return the constant."""
        return self.by
