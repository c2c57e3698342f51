"""Quasi-hyperbolic momentum."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Filter, Scope


@dataclasses.dataclass
class QuasiHyperbolicState:
    """State of `QuasiHyperbolic`.

    Attributes:
        average: The average, not debiased, ``[batch, *shape]``.
    """

    average: Tensor


@final
@dataclasses.dataclass(frozen=True)
class QuasiHyperbolic(Filter[QuasiHyperbolicState]):
    """``weight v + (1 - weight) m`` with ``m <- beta m + (1 - beta) v``, started at zero.

    It is what an average makes of the approximate correction of MARS from a zero gradient on, without that gradient.

    Sources: Ma and Yarats (arXiv 1810.06801); the memory-efficient code of MARS-M (arXiv 2510.21800).

    Attributes:
        weight: Weight of the vector itself, in ``[0, 1]``.
        beta: Decay of the average, in ``[0, 1)``.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    equivariant: ClassVar[bool] = True
    weight: float = 0.3
    beta: float = 0.9

    def __post_init__(self) -> None:
        """Check the weights."""
        if not (0.0 <= self.weight <= 1.0 and 0.0 <= self.beta < 1.0):
            raise BadInputError(f"the weight must be in [0, 1] and beta in [0, 1), not {self.weight} and {self.beta}")

    def init(self, like: Tensor) -> QuasiHyperbolicState:
        """Start at zero."""
        return QuasiHyperbolicState(torch.zeros_like(like))

    def push(self, state: QuasiHyperbolicState, v: Tensor, evidence: Evidence) -> Tensor:
        """Absorb ``v`` and return the momentum."""
        return torch.lerp(state.average.lerp_(v, 1.0 - self.beta), v, self.weight)
