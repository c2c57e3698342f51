"""Nesterov momentum in gradient differences, as Adan has it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Evidence, Filter, Need, NoState, Scope, need
from precond.math.averages import debias


@final
@dataclasses.dataclass(frozen=True)
class LookAhead(Filter[NoState]):
    """Extrapolate the gradient: ``v + beta (v - previous)``.

    Attributes:
        beta: How far ahead.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    needs: ClassVar[Need] = Need.PREVIOUS
    beta: float = 0.92

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def push(self, state: NoState, v: Tensor, evidence: Evidence) -> Tensor:
        """Return the extrapolated gradient."""
        return torch.lerp(v, need(evidence.previous, "previous"), -self.beta)


@dataclasses.dataclass
class DifferenceMomentumState:
    """State of `DifferenceMomentum`.

    Attributes:
        average: Average of gradients, ``[batch, *shape]``.
        difference: Average of differences of successive gradients, ``[batch, *shape]``.
        steps: Gradients absorbed, ``[batch]``.
    """

    average: Tensor
    difference: Tensor
    steps: Tensor


@final
@dataclasses.dataclass(frozen=True)
class DifferenceMomentum(Filter[DifferenceMomentumState]):
    """Average of gradients plus ``beta2`` times the average of their differences, both debiased.

    Source: Adan (arXiv 2208.06677), with decays written as 1 minus the paper's.

    Attributes:
        beta1: Decay of the average of gradients.
        beta2: Decay of the average of differences, and its weight in the sum.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    needs: ClassVar[Need] = Need.PREVIOUS
    beta1: float = 0.98
    beta2: float = 0.92

    def init(self, like: Tensor) -> DifferenceMomentumState:
        """Start at zero."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)
        return DifferenceMomentumState(torch.zeros_like(like), torch.zeros_like(like), steps)

    def push(self, state: DifferenceMomentumState, v: Tensor, evidence: Evidence) -> Tensor:
        """Absorb ``v`` and return the momentum."""
        state.steps.add_(1)
        state.average.lerp_(v, 1.0 - self.beta1)
        state.difference.lerp_(v - need(evidence.previous, "previous"), 1.0 - self.beta2)
        result = state.average / debias(self.beta1, state.steps, v)
        return result.add_(state.difference * (self.beta2 / debias(self.beta2, state.steps, v)))
