"""Clipping by norm and by amplitude."""

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


@final
@dataclasses.dataclass(frozen=True)
class ClipAmplitude(Filter[NoState]):
    """Scale each tensor down to a root mean square of at most ``rms``, then cut its entries at ``largest``.

    Source: the published code of PSGD (Pooladzandi and Li, arXiv 2402.04553), for white directions.

    Attributes:
        rms: The largest root mean square, positive.
        largest: The largest absolute entry, positive.
    """

    rms: float = 2.0
    largest: float = 10.0

    def __post_init__(self) -> None:
        """Check the limits."""
        if not (self.rms > 0 and self.largest > 0):
            raise BadInputError(f"amplitudes must be clipped to positive limits, not {self.rms} and {self.largest}")

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def push(self, state: NoState, v: Tensor, evidence: Evidence) -> Tensor:
        """Return ``v``, clipped."""
        limit = self.rms * v[0].numel() ** 0.5
        return (v * (limit / member_norm(v).clamp(min=limit))).clamp_(-self.largest, self.largest)
