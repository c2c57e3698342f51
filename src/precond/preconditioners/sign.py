"""The sign of every entry."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import NoState, Preconditioner, Scope, Traits
from precond.preconditioners.shifts import refuse_shift


@final
@dataclasses.dataclass(frozen=True)
class Sign(Preconditioner[NoState]):
    """Steepest descent in the largest entry: the sign of its argument, zero for zero.

    Attributes:
        size: What to multiply the signs by, positive.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    size: float = 1.0

    @property
    def traits(self) -> Traits:
        """Nonlinear; ``<v, sign v> > 0``."""
        return Traits(linear=False, symmetric=False)

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def apply(self, state: NoState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return the signs."""
        refuse_shift(self, shift)
        signs = torch.sign(v)
        return signs if self.size == 1.0 else signs.mul_(self.size)
