"""Nesterov momentum written with an average instead of a sum."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Evidence, Filter, Scope
from precond.filters.decays import check_decay


@dataclasses.dataclass
class NesterovState:
    """State of `Nesterov`.

    Attributes:
        average: The average, ``[batch, *shape]``.
    """

    average: Tensor


@final
@dataclasses.dataclass(frozen=True)
class Nesterov(Filter[NesterovState]):
    """Nesterov momentum of Muon: ``m <- beta m + (1 - beta) v``, then ``(1 - beta) v + beta m``.

    Attributes:
        beta: Decay, in ``[0, 1)``.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    equivariant: ClassVar[bool] = True
    beta: float = 0.95

    def __post_init__(self) -> None:
        """Check the decay."""
        check_decay("the decay of the momentum", self.beta)

    def init(self, like: Tensor) -> NesterovState:
        """Start at zero."""
        return NesterovState(torch.zeros_like(like))

    def push(self, state: NesterovState, v: Tensor, evidence: Evidence) -> Tensor:
        """Absorb ``v`` and return the look-ahead average."""
        state.average.lerp_(v, 1.0 - self.beta)
        return torch.lerp(v, state.average, self.beta)
