"""Steps of a given size per entry."""

from __future__ import annotations

import dataclasses
from typing import final

from torch import Tensor

from precond.core import BadInputError, Evidence, Factor, NoState
from precond.math.norms import member_norm


@final
@dataclasses.dataclass(frozen=True)
class MatchRMS(Factor[NoState]):
    """Scale each tensor's direction to a given root mean square, so that learning rates of AdamW can be kept.

    Source: Moonlight (arXiv 2502.16982), which puts the typical update of AdamW at 0.2.

    Attributes:
        rms: The root mean square of the entries of the direction, positive.
        floor: Added to the norm before dividing by it; a zero direction stays zero.
    """

    rms: float = 0.2
    floor: float = 1e-16

    def __post_init__(self) -> None:
        """Check the size."""
        if not self.rms > 0:
            raise BadInputError(f"the root mean square must be positive, not {self.rms}")

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def factor(self, state: NoState, evidence: Evidence, direction: Tensor) -> Tensor:
        """Return ``rms sqrt(entries) / norm``, shaped ``[batch, 1, ..., 1]``."""
        return self.rms * direction[0].numel() ** 0.5 / (member_norm(direction) + self.floor)
