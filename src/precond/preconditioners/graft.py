"""The direction of one preconditioner with the length of another."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from precond.core import Evidence, Health, Need, Preconditioner, Scope, Traits
from precond.math.norms import member_norm
from precond.preconditioners.shifts import refuse_shift

_FLOOR = 1e-16


@dataclasses.dataclass
class GraftState:
    """State of `Graft`.

    Attributes:
        direction: State of the preconditioner that gives the direction.
        magnitude: State of the one that gives the length.
        steps: Gradients seen, ``[batch]``; kept only where the direction starts later.
    """

    direction: Any
    magnitude: Any
    steps: Tensor | None


@final
@dataclasses.dataclass(frozen=True)
class Graft(Preconditioner[GraftState]):
    """``u ||d|| / ||u||`` per tensor, with ``u`` from one preconditioner and ``d`` from another.

    Sources: Agarwal et al. (arXiv 2002.11803); used with Shampoo by Anil et al. (arXiv 2002.09018).

    Attributes:
        direction: Gives ``u``.
        magnitude: Gives ``d``.
        start: Gradients to see before ``u`` is used; until then the result is ``d`` itself.
    """

    scope: ClassVar[Scope] = Scope.MATRIX
    direction: Preconditioner[Any]
    magnitude: Preconditioner[Any]
    start: int = 0

    @property
    def needs(self) -> Need:
        """What either needs."""
        return self.direction.needs | self.magnitude.needs

    @property
    def traits(self) -> Traits:
        """Nonlinear, since the lengths depend on the argument; positive if the direction is."""
        both = self.direction.traits, self.magnitude.traits
        return Traits(
            linear=False,
            symmetric=False,
            definite=both[0].definite,
            fixed=all(traits.fixed for traits in both),
            traceable=all(traits.traceable for traits in both),
        )

    @property
    def elementwise(self) -> Preconditioner[Any] | None:
        """The one that gives the length, direction and all."""
        return self.magnitude.elementwise

    def init(self, like: Tensor) -> GraftState:
        """Start both."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device) if self.start else None
        return GraftState(self.direction.init(like), self.magnitude.init(like), steps)

    def prime(self, state: GraftState, evidence: Evidence) -> Health:
        """Prime both."""
        return self.direction.prime(state.direction, evidence) + self.magnitude.prime(state.magnitude, evidence)

    def observe(self, state: GraftState, evidence: Evidence) -> None:
        """Let both observe."""
        self.direction.observe(state.direction, evidence)
        self.magnitude.observe(state.magnitude, evidence)
        if state.steps is not None:
            state.steps.add_(1)

    @property
    def refreshes(self) -> bool:
        """Whether either does."""
        return self.direction.refreshes or self.magnitude.refreshes

    def refresh(self, state: GraftState) -> Health:
        """Refresh both."""
        return self.direction.refresh(state.direction) + self.magnitude.refresh(state.magnitude)

    def apply(self, state: GraftState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return the direction with the other's length."""
        refuse_shift(self, shift)
        direction = self.direction.apply(state.direction, v)
        plain = self.magnitude.apply(state.magnitude, v)
        grafted = direction * (member_norm(plain) / (member_norm(direction) + _FLOOR))
        if state.steps is None:
            return grafted
        return torch.where((state.steps < self.start).view(-1, *(1,) * (v.ndim - 1)), plain, grafted)
