"""Clipping by norm."""

from __future__ import annotations

import dataclasses
from typing import final

from torch import Tensor

from precond.core import BadInputError, Evidence, Filter, NoState
from precond.math.norms import member_norm


@final
@dataclasses.dataclass(frozen=True)
class ClipNorm(Filter[NoState]):
    """Scale each tensor down to a Euclidean norm of at most ``limit``; shorter ones pass unchanged.

    Attributes:
        limit: The largest norm, positive, per tensor (not over the model, for which there is
            `torch.nn.utils.clip_grad_norm_`).
    """

    limit: float = 1.0

    def __post_init__(self) -> None:
        """Check the limit."""
        if not self.limit > 0:
            raise BadInputError(f"the norm must be clipped to a positive limit, not {self.limit}")

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def push(self, state: NoState, v: Tensor, evidence: Evidence) -> Tensor:
        """Return ``v``, clipped."""
        return v * (self.limit / member_norm(v).clamp(min=self.limit))
