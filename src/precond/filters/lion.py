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
        steps: Vectors absorbed, ``[batch]``; kept only where the result is debiased.
    """

    average: Tensor
    steps: Tensor | None


@final
@dataclasses.dataclass(frozen=True)
class Interpolation(Filter[InterpolationState]):
    """Return ``beta1 m + (1 - beta1) v``, and remember ``m <- beta2 m + (1 - beta2) v``.

    Source: Lion (arXiv 2302.06675), Algorithm 2.

    Attributes:
        beta1: Weight of the memory in what is returned.
        beta2: Decay of the memory.
        debias: Divide the result by ``1 - beta1 beta2^(t - 1)``, the weight that it has gathered.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    beta1: float = 0.9
    beta2: float = 0.99
    debias: bool = False

    def init(self, like: Tensor) -> InterpolationState:
        """Start at zero."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device) if self.debias else None
        return InterpolationState(torch.zeros_like(like), steps)

    def push(self, state: InterpolationState, v: Tensor, evidence: Evidence) -> Tensor:
        """Return the interpolation, then absorb ``v``."""
        mixed = torch.lerp(v, state.average, self.beta1)
        state.average.lerp_(v, 1.0 - self.beta2)
        if state.steps is None:
            return mixed
        weight = 1.0 - self.beta1 * torch.pow(self.beta2, state.steps.to(torch.float64))
        state.steps.add_(1)
        return mixed / weight.to(v.dtype).view(-1, *(1,) * (v.ndim - 1))
