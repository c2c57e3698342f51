"""Momentum of stochastic gradient descent."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Filter, Scope
from precond.filters.decays import check_decay


@dataclasses.dataclass
class HeavyBallState:
    """State of `HeavyBall`.

    Attributes:
        velocity: The momentum buffer, ``[batch, *shape]``.
        steps: Vectors absorbed, ``[batch]``; kept only where there is dampening.
    """

    velocity: Tensor
    steps: Tensor | None


@final
@dataclasses.dataclass(frozen=True)
class HeavyBall(Filter[HeavyBallState]):
    """Momentum as `torch.optim.SGD` has it: ``b <- momentum b + (1 - dampening) v``, the first ``v`` undamped.

    Attributes:
        momentum: Decay of the buffer, in ``[0, 1)``.
        dampening: What is taken off each vector after the first.
        nesterov: Return ``v + momentum b`` rather than ``b``; needs zero dampening.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    equivariant: ClassVar[bool] = True
    momentum: float = 0.9
    dampening: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        """Check the momentum, and what goes together."""
        check_decay("the momentum", self.momentum)
        if self.nesterov and (self.momentum <= 0.0 or self.dampening != 0.0):
            raise BadInputError("Nesterov momentum needs a positive momentum and dampening=0")

    def init(self, like: Tensor) -> HeavyBallState:
        """Start at zero."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device) if self.dampening else None
        return HeavyBallState(torch.zeros_like(like), steps)

    def push(self, state: HeavyBallState, v: Tensor, evidence: Evidence) -> Tensor:
        """Absorb ``v`` and return the velocity."""
        kept = v
        if state.steps is not None:
            weight = 1.0 - self.dampening * (state.steps > 0).to(v.dtype)
            kept = v * weight.view(-1, *(1,) * (v.ndim - 1))
            state.steps.add_(1)
        velocity = torch.add(kept, state.velocity, alpha=self.momentum)
        state.velocity.copy_(velocity)
        return velocity.mul_(self.momentum).add_(v) if self.nesterov else velocity
