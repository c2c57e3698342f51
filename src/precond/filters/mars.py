"""The variance-reduced gradient of MARS."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Filter, Need, Scope, need


@dataclasses.dataclass
class MarsState:
    """State of `Mars`.

    Attributes:
        steps: Gradients seen, ``[batch]``; kept only where the first step starts from a zero gradient.
    """

    steps: Tensor | None


@final
@dataclasses.dataclass(frozen=True)
class Mars(Filter[MarsState]):
    """Add a multiple of the change of the gradient: ``v + gamma beta / (1 - beta) (v - previous)``.

    In the exact form ``previous`` is the gradient of this batch at the weights of the step before, so that the
    difference is free of the noise of sampling. In the approximate form it is the gradient of the step before, of
    another batch: before an average of decay ``beta`` this is quasi-hyperbolic momentum,
    ``gamma v + (1 - gamma) average``.

    Source: MARS (arXiv 2411.10438), Algorithm 1 and the approximation of its section 3.

    Attributes:
        gamma: Strength; 0 leaves the gradient as it is, 1 is the full correction of recursive momentum.
        beta: Decay of the average that follows.
        from_zero: Take the gradient before the first to be zero, as the published code does, rather than the first
            itself, as the paper does.
        exact: Whether the difference is taken on one batch.
    """

    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    gamma: float = 0.025
    beta: float = 0.95
    from_zero: bool = False
    exact: bool = False

    @property
    def needs(self) -> Need:
        """The other gradient."""
        return Need.LOOKBACK if self.exact else Need.PREVIOUS

    def __post_init__(self) -> None:
        """Check the decay."""
        if not 0.0 <= self.beta < 1.0:
            raise BadInputError(f"beta must be in [0, 1), not {self.beta}")

    @property
    def change(self) -> float:
        """Where the result lies between the gradient, 0, and the other one, 1."""
        return -self.gamma * self.beta / (1.0 - self.beta)

    def init(self, like: Tensor) -> MarsState:
        """Keep a counter where it is needed."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device) if self.from_zero else None
        return MarsState(steps)

    def push(self, state: MarsState, v: Tensor, evidence: Evidence) -> Tensor:
        """Return the corrected gradient."""
        previous = need(evidence.lookback, "lookback") if self.exact else need(evidence.previous, "previous")
        if state.steps is not None:
            first = (state.steps == 0).view(-1, *(1,) * (v.ndim - 1))
            previous = torch.where(first, 0.0, previous)
            state.steps.add_(1)
        return torch.lerp(v, previous, self.change)
