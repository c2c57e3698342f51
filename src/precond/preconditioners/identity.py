"""No preconditioning."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

from torch import Tensor

from precond.core import NoState, Preconditioner, Traits


@final
@dataclasses.dataclass(frozen=True)
class Identity(Preconditioner[NoState]):
    """The identity: ``P = I``, and ``(I + shift I)^-1`` when shifted."""

    trivial: ClassVar[bool] = True
    side_by_side: ClassVar[bool] = True

    @property
    def traits(self) -> Traits:
        """Everything there is to like, shifts included."""
        return Traits(shiftable=True)

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def apply(self, state: NoState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``v / (1 + shift)``, a new tensor."""
        return v / (1 + shift) if shift else v.clone()
