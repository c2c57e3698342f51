"""Small parts with exact arithmetic, so that the driver is tested apart from any real method."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from precond.core import HEALTHY, Evidence, Factor, Filter, Health, Need, NoState, Preconditioner, Scope, need


@dataclasses.dataclass
class SumState:
    total: Tensor


@dataclasses.dataclass(frozen=True)
class Sum(Filter[SumState]):
    """The sum of everything pushed."""

    def init(self, like: Tensor) -> SumState:
        return SumState(torch.zeros_like(like))

    def push(self, state: SumState, v: Tensor, evidence: Evidence) -> Tensor:
        state.total.add_(v)
        return state.total.clone()


@dataclasses.dataclass(frozen=True)
class Difference(Filter[NoState]):
    """The change of the gradient since the step before."""

    needs: ClassVar[Need] = Need.PREVIOUS

    def init(self, like: Tensor) -> NoState:
        return NoState()

    def push(self, state: NoState, v: Tensor, evidence: Evidence) -> Tensor:
        return v - need(evidence.previous, "the previous gradient")


@dataclasses.dataclass(frozen=True)
class ByLength(Factor[NoState]):
    """As far as the first axis is long."""

    def init(self, like: Tensor) -> NoState:
        return NoState()

    def factor(self, state: NoState, evidence: Evidence, direction: Tensor) -> float:
        return float(direction.shape[1])


@dataclasses.dataclass
class CountState:
    observed: Tensor
    refreshed_at: Tensor
    refreshes: Tensor
    primed: Tensor


@dataclasses.dataclass(frozen=True)
class Count(Preconditioner[CountState]):
    """The identity, which counts its own verbs; fails when asked, in one way or the other."""

    failing: str = ""
    scope: ClassVar[Scope] = Scope.MATRIX

    def init(self, like: Tensor) -> CountState:
        return CountState(*(torch.zeros(like.shape[0], dtype=torch.int64, device=like.device) for _ in range(4)))

    def prime(self, state: CountState, evidence: Evidence) -> Health:
        state.primed.add_(1)
        return HEALTHY

    def observe(self, state: CountState, evidence: Evidence) -> None:
        state.observed.add_(1)

    def refresh(self, state: CountState) -> Health:
        state.refreshes.add_(1)
        state.refreshed_at.copy_(state.observed)
        if self.failing == "raise":
            raise torch.linalg.LinAlgError("did not converge")
        return Health(state.observed.shape[0], "did not converge") if self.failing == "report" else HEALTHY

    def apply(self, state: CountState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return v.clone()


@dataclasses.dataclass(frozen=True)
class NeedsLoss(Count):
    needs: ClassVar[Need] = Need.LOSS


@dataclasses.dataclass(frozen=True)
class NeedsOperator(Count):
    needs: ClassVar[Need] = Need.OPERATOR
