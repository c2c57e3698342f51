"""Exponential moving average."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Evidence, Filter, Scope
from precond.filters.decays import check_decay
from precond.math.averages import debias


@dataclasses.dataclass
class EMAState:
    """State of `EMA`.

    Attributes:
        average: The average, not debiased, ``[batch, *shape]``.
        steps: Vectors absorbed, ``[batch]``.
    """

    average: Tensor
    steps: Tensor


@final
@dataclasses.dataclass(frozen=True)
class EMA(Filter[EMAState]):
    """Exponential moving average ``m <- beta m + (1 - beta) v``, started at zero.

    Attributes:
        beta: Decay, in ``[0, 1)``.
        debias: Return ``m / (1 - beta^t)``, as Adam does.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    equivariant: ClassVar[bool] = True
    beta: float = 0.9
    debias: bool = True

    def __post_init__(self) -> None:
        """Check the decay."""
        check_decay("the decay of the momentum", self.beta)

    def init(self, like: Tensor) -> EMAState:
        """Start at zero."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)
        return EMAState(torch.zeros_like(like), steps)

    def push(self, state: EMAState, v: Tensor, evidence: Evidence) -> Tensor:
        """Absorb ``v`` and return the average."""
        state.steps.add_(1)
        average = state.average.lerp_(v, 1.0 - self.beta)
        return average / debias(self.beta, state.steps, average) if self.debias else average.clone()
