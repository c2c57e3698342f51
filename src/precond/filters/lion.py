"""The two interpolations of Lion."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Evidence, Filter, Scope


@dataclasses.dataclass
class InterpolationState:
    """State of `Interpolation`.

    Attributes:
        average: The average, ``[batch, *shape]``.
    """

    average: Tensor


@final
@dataclasses.dataclass(frozen=True)
class Interpolation(Filter[InterpolationState]):
    """Return ``beta1 m + (1 - beta1) v``, and remember ``m <- beta2 m + (1 - beta2) v``.

    Source: Lion (arXiv 2302.06675), Algorithm 2.

    Attributes:
        beta1: Weight of the memory in what is returned.
        beta2: Decay of the memory.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    beta1: float = 0.9
    beta2: float = 0.99

    def init(self, like: Tensor) -> InterpolationState:
        """Start at zero."""
        return InterpolationState(torch.zeros_like(like))

    def push(self, state: InterpolationState, v: Tensor, evidence: Evidence) -> Tensor:
        """Return the interpolation, then absorb ``v``."""
        mixed = torch.lerp(v, state.average, self.beta1)
        state.average.lerp_(v, 1.0 - self.beta2)
        return mixed
