"""No preconditioning."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from precond.core import NoState, Preconditioner, Traits


@dataclasses.dataclass(frozen=True)
class Identity(Preconditioner[NoState]):
    """The identity: ``apply(v) = v / (1 + shift)``."""

    @property
    def traits(self) -> Traits:
        """Symmetric, definite and shiftable."""
        return Traits(shiftable=True)

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def apply(self, state: NoState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``v / (1 + shift)``; ``v`` itself without a shift."""
        return v if shift == 0 else v / (1 + shift)
