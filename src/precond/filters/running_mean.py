"""The mean of all vectors at first, and an exponential moving average later."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Evidence, Filter, Scope
from precond.filters.decays import check_decay


@dataclasses.dataclass
class RunningMeanState:
    """State of `RunningMean`.

    Attributes:
        average: The average, ``[batch, *shape]``.
        steps: Vectors absorbed, ``[batch]``.
    """

    average: Tensor
    steps: Tensor


@final
@dataclasses.dataclass(frozen=True)
class RunningMean(Filter[RunningMeanState]):
    """``m <- b m + (1 - b) v`` with ``b = min(t / (t + 1), beta)`` after ``t`` vectors: unbiased from the start.

    Source: the published code of PSGD (Pooladzandi and Li, arXiv 2402.04553).

    Attributes:
        beta: Decay in the long run, in ``[0, 1)``.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    beta: float = 0.9

    def __post_init__(self) -> None:
        """Check the decay."""
        check_decay("the decay of the momentum", self.beta)

    def init(self, like: Tensor) -> RunningMeanState:
        """Start at zero."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)
        return RunningMeanState(torch.zeros_like(like), steps)

    def push(self, state: RunningMeanState, v: Tensor, evidence: Evidence) -> Tensor:
        """Absorb ``v`` and return the average."""
        decay = (1.0 - 1.0 / (state.steps + 1).to(torch.float64)).clamp(max=self.beta).to(v.dtype)
        state.steps.add_(1)
        state.average.lerp_(v, (1.0 - decay).view(-1, *(1,) * (v.ndim - 1)))
        return state.average.clone()
