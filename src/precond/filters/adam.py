"""Adam's direction for a stream of vectors that are no gradients."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Filter, Role, rests_as
from precond.math.averages import debias


@dataclasses.dataclass
class AdamState:
    """State of `Adam`.

    Attributes:
        average: Average of the vectors, ``[batch, *shape]``.
        second_moment: Average of their squares, ``[batch, *shape]``.
        steps: Vectors absorbed, ``[batch]``.
    """

    average: Tensor
    second_moment: Tensor = rests_as(Role.NON_NEGATIVE)
    steps: Tensor = rests_as(Role.EXACT)


@final
@dataclasses.dataclass(frozen=True)
class Adam(Filter[AdamState]):
    """``m / (sqrt(s) + eps)`` with the averages ``m`` of the vectors pushed and ``s`` of their squares, debiased.

    What Adam (arXiv 1412.6980) does with gradients, done with directions: for methods that hand a preconditioned
    gradient to Adam.

    Attributes:
        b1: Decay of the average.
        b2: Decay of the average of squares.
        eps: Added to the root.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Check the decays and what is added."""
        if not (0.0 <= self.b1 < 1.0 and 0.0 <= self.b2 < 1.0 and self.eps >= 0.0):
            raise BadInputError(
                f"decays must be in [0, 1) and eps not negative, not {self.b1}, {self.b2} and {self.eps}"
            )

    def init(self, like: Tensor) -> AdamState:
        """Start at zero."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)
        return AdamState(torch.zeros_like(like), torch.zeros_like(like), steps)

    def push(self, state: AdamState, v: Tensor, evidence: Evidence) -> Tensor:
        """Absorb ``v`` and return the direction."""
        state.steps.add_(1)
        average = state.average.lerp_(v, 1.0 - self.b1)
        state.second_moment.mul_(self.b2).addcmul_(v, v, value=1.0 - self.b2)
        root = state.second_moment.sqrt().div_(debias(self.b2, state.steps, average).sqrt_())
        return average / root.add_(self.eps).mul_(debias(self.b1, state.steps, average))
