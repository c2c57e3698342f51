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
    """Steepest descent in the largest entry: the sign of its argument, zero for zero."""

    scope: ClassVar[Scope] = Scope.ELEMENTWISE

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
        return torch.sign(v)
