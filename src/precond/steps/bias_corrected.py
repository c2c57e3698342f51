"""Adam's correction of biases as a factor on the learning rate."""

from __future__ import annotations

import dataclasses
from typing import Any, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Factor, Need
from precond.math.averages import debias


@dataclasses.dataclass
class BiasCorrectedState:
    """State of `BiasCorrected`.

    Attributes:
        steps: Steps taken, ``[batch]``.
        inner: State of the inner rule.
    """

    steps: Tensor
    inner: Any


@final
@dataclasses.dataclass(frozen=True)
class BiasCorrected(Factor[BiasCorrectedState]):
    """Multiply another rule's factor by ``sqrt(1 - b2^t) / (1 - b1^t)``: for rules that undo the scale of a direction.

    Attributes:
        inner: The rule, a `Factor`.
        b1: Decay of the average of gradients.
        b2: Decay of the average of their squares.
    """

    inner: Factor[Any]
    b1: float = 0.9
    b2: float = 0.999

    def __post_init__(self) -> None:
        """Check the decays."""
        if not (0.0 <= self.b1 < 1.0 and 0.0 <= self.b2 < 1.0):
            raise BadInputError(f"decays must be in [0, 1), not {self.b1} and {self.b2}")

    @property
    def needs(self) -> Need:
        """What the inner rule needs."""
        return self.inner.needs

    def init(self, like: Tensor) -> BiasCorrectedState:
        """Start at step 0."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)
        return BiasCorrectedState(steps, self.inner.init(like))

    def factor(self, state: BiasCorrectedState, evidence: Evidence, direction: Tensor) -> Tensor:
        """Count the step and return the factor, shaped to broadcast against ``direction``."""
        state.steps.add_(1)
        inner = self.inner.factor(state.inner, evidence, direction)
        gathered = [debias(beta, state.steps, direction) for beta in (self.b1, self.b2)]
        return inner * gathered[1].sqrt() / gathered[0]
