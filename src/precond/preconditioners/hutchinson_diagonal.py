"""Hutchinson's estimate of the diagonal of the Hessian, kept away from zero."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Need, Preconditioner, Scope, Traits
from precond.math.averages import debias


@dataclasses.dataclass
class HutchinsonDiagonalState:
    """State of `HutchinsonDiagonal`.

    Attributes:
        diagonal: Average of the estimates, ``[batch, *shape]``.
        steps: Probes absorbed, ``[batch]``.
    """

    diagonal: Tensor
    steps: Tensor


@final
@dataclasses.dataclass(frozen=True)
class HutchinsonDiagonal(Preconditioner[HutchinsonDiagonalState]):
    """``B = max(|D|, floor)`` with ``D`` the average of ``z * H z`` for random signs ``z``.

    The signs of the estimates are averaged too, so that what lies beside the diagonal cancels in time. A member whose
    product is not finite keeps its average.

    Sources: OASIS (Jahani et al., arXiv 2109.05198), PSPS (arXiv 2310.02093).

    Attributes:
        beta: Decay of the average, which is debiased.
        floor: The least entry, positive.
    """

    needs: ClassVar[Need] = Need.PROBE | Need.SIGNS
    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    beta: float = 0.999
    floor: float = 0.1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0.0 <= self.beta < 1.0 and self.floor > 0.0):
            raise BadInputError(f"beta must be in [0, 1) and the floor positive, not {self.beta} and {self.floor}")

    @property
    def traits(self) -> Traits:
        """A positive diagonal that moves with every probe."""
        return Traits(fixed=False, shiftable=True)

    def init(self, like: Tensor) -> HutchinsonDiagonalState:
        """Start at zero."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)
        return HutchinsonDiagonalState(torch.zeros_like(like), steps)

    def observe(self, state: HutchinsonDiagonalState, evidence: Evidence) -> None:
        """Absorb the product with a probe, where this step has one."""
        if evidence.probe is None:
            return
        z, product = evidence.probe
        estimate = z * product
        finite = estimate.flatten(1).isfinite().all(1)
        state.steps.add_(finite.to(state.steps))
        mask = finite.view(-1, *(1,) * (estimate.ndim - 1))
        moved = state.diagonal.lerp(torch.where(mask, estimate, 0.0), 1.0 - self.beta)
        state.diagonal.copy_(torch.where(mask, moved, state.diagonal))

    def apply(self, state: HutchinsonDiagonalState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``v / (max(|D|, floor) + shift)``."""
        diagonal = state.diagonal / debias(self.beta, state.steps, state.diagonal)
        return v / (diagonal.abs_().clamp_(min=self.floor) + shift)
