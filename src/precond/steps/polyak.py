"""Polyak's step, in the metric of a preconditioner and over all parameters at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Need, Shared, need

Slack = Literal["none", "absolute", "square"]
_LEAST = 1e-13
"""Squared length of the gradient, below which no step is taken, as in the published code."""


@dataclasses.dataclass
class PolyakState:
    """State of `Polyak`.

    Attributes:
        slack: What the linearized loss may keep, the same number for each member, ``[batch]``.
    """

    slack: Tensor


@final
@dataclasses.dataclass(frozen=True)
class Polyak(Shared[PolyakState]):
    """The step ``t`` after which the linearized loss vanishes, or is what a slack ``s`` allows.

    With ``f`` the loss of the batch above its lower bound and ``G = <g, P g>``, summed over all parameters:

    * no slack: ``t = f / G``;
    * ``"absolute"``: ``a = max(0, f - s + weight) / (1 + G)``, ``t = min(a, f / G)``, ``s <- max(0, s - weight + a)``,
      which minimizes ``|d|_B^2 / 2 + (s' - s)^2 / 2 + weight s'`` where ``f + <g, d> <= s'`` and ``s' >= 0``;
    * ``"square"``: with ``q = 1 / (1 + weight)``, ``t = max(0, f - q s) / (G + q)``, ``s <- q (s + t)``, which
      minimizes the same with ``weight s'^2 / 2``, and ``s'`` of either sign.

    Source: Abdukhakimov, Xiang, Kamzolov, Takac (arXiv 2310.02093).

    Attributes:
        slack: How the loss may stay above its bound, which it must where no weights fit every batch.
        weight: Of the slack.
        lower: Lower bound of the loss of every batch.
        largest: Bound on ``t``.
    """

    needs: ClassVar[Need] = Need.GRADIENT | Need.LOSS
    slack: Slack = "absolute"
    weight: float = 0.01
    lower: float = 0.0
    largest: float = math.inf

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.slack not in ("none", "absolute", "square"):
            raise BadInputError(f"the slack must be 'none', 'absolute' or 'square', not {self.slack!r}")
        if not (self.weight >= 0 and self.largest > 0 and math.isfinite(self.lower)):
            raise BadInputError(
                f"weight >= 0, largest > 0 and a finite lower bound are needed, not {self.weight}, {self.largest} and "
                f"{self.lower}"
            )

    def init(self, like: Tensor) -> PolyakState:
        """Start without slack."""
        return PolyakState(torch.zeros(like.shape[0], dtype=like.dtype, device=like.device))

    def contribute(self, state: PolyakState, evidence: Evidence, precondition: Callable[[Tensor], Tensor]) -> Tensor:
        """Return ``<g, P g>`` of each member."""
        gradient = need(evidence.gradient, "gradient")
        return (gradient * precondition(gradient)).flatten(1).sum(1)

    def combine(self, contributions: Tensor) -> Tensor:
        """Add them up, the least first, so that the sum does not depend on the order of the parameters."""
        return contributions.sort().values.sum()

    def share(self, state: PolyakState, evidence: Evidence, combined: Tensor) -> Tensor:
        """Move the slack and return the step, the same for every member."""
        loss = (need(evidence.loss, "loss").to(combined) - self.lower).clamp(min=0.0)
        step, slack = self._solved(loss, combined, state.slack)
        usable = (combined >= _LEAST) & loss.isfinite() & combined.isfinite()
        state.slack.copy_(torch.where(usable, slack, state.slack))
        return torch.where(usable, step.clamp(max=self.largest), 0.0).expand_as(state.slack)

    def _solved(self, loss: Tensor, size: Tensor, slack: Tensor) -> tuple[Tensor, Tensor]:
        """Return the step and the next slack."""
        if self.slack == "none":
            return loss / size, slack
        if self.slack == "absolute":
            excess = (loss - slack + self.weight).clamp(min=0.0) / (1.0 + size)
            return torch.minimum(excess, loss / size), (slack - self.weight + excess).clamp(min=0.0)
        share = 1.0 / (1.0 + self.weight)
        step = (loss - share * slack).clamp(min=0.0) / (size + share)
        return step, share * (slack + step)
