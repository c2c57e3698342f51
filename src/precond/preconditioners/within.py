"""An elementwise preconditioner in the coordinates of another one."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

from torch import Tensor

from precond.core import Evidence, Health, IncompatibleError, Need, Preconditioner, Scope, Traits, Turned, need


@dataclasses.dataclass
class WithinState:
    """State of `Within`.

    Attributes:
        outer: State of the preconditioner whose coordinates are used.
        inner: State of the one that acts in them.
    """

    outer: Any
    inner: Any


@final
@dataclasses.dataclass(frozen=True)
class Within(Turned[WithinState]):
    """The coordinates of one preconditioner, the scaling of another: KL-SOAP is `Diagonal` within `KLKronecker`.

    The outer one observes, turns and enters coordinates as it would alone; what it would divide by is left out. Turns
    that keep the order of the axes need nothing of the inner state; for a basis that sorts them anew there is `Rotate`.

    Attributes:
        outer: Has the coordinates, one for each entry of a tensor.
        inner: An elementwise preconditioner.
    """

    scope: ClassVar[Scope] = Scope.MATRIX
    outer: Turned[Any]
    inner: Preconditioner[Any]

    def __post_init__(self) -> None:
        """Check that the outer one has coordinates, and that the inner state need not turn with them."""
        if not isinstance(self.outer, Turned):
            raise IncompatibleError(f"{type(self.outer).__name__} has no coordinates of its own: use KLKronecker")
        if self.inner.scope is not Scope.ELEMENTWISE or self.inner.refreshes:
            raise IncompatibleError(
                f"only elementwise parts without refreshes act within others, not {type(self.inner).__name__}"
            )

    @property
    def needs(self) -> Need:
        """What both need."""
        return self.outer.needs | self.inner.needs

    @property
    def traits(self) -> Traits:
        """Those of the inner preconditioner: an orthogonal change of basis keeps them all."""
        return dataclasses.replace(self.inner.traits, traceable=self.outer.traits.traceable, turns=True)

    @property
    def elementwise(self) -> Preconditioner[Any]:
        """The inner preconditioner, in the coordinates of the tensor itself."""
        return self.inner

    def init(self, like: Tensor) -> WithinState:
        """Start both."""
        return WithinState(self.outer.init(like), self.inner.init(self.outer.coordinates(like)))

    def coordinates(self, like: Tensor) -> Tensor:
        """Return a tensor shaped as the coordinates of the outer preconditioner."""
        return self.outer.coordinates(like)

    def prime(self, state: WithinState, evidence: Evidence) -> Health:
        """Prime the outer preconditioner; the inner one has nothing to see before there are coordinates."""
        return self.outer.prime(state.outer, evidence)

    def enter(self, state: WithinState, v: Tensor) -> Tensor:
        """Return the coordinates of ``v``."""
        return self.outer.enter(state.outer, v)

    def leave(self, state: WithinState, v: Tensor) -> Tensor:
        """Return the vector whose coordinates are ``v``."""
        return self.outer.leave(state.outer, v)

    def observe_within(self, state: WithinState, within: Tensor, evidence: Evidence) -> None:
        """Let both observe the gradient in the present coordinates."""
        previous = evidence.previous
        if Need.PREVIOUS in self.inner.needs:
            previous = self.outer.enter(state.outer, need(previous, "previous"))
        self.inner.observe(state.inner, dataclasses.replace(evidence, gradient=within, previous=previous))
        self.outer.observe_within(state.outer, within, evidence)

    def apply_within(self, state: WithinState, within: Tensor, *, shift: float = 0.0) -> Tensor:
        """Apply the inner preconditioner."""
        return self.inner.apply(state.inner, within, shift=shift)

    def refresh(self, state: WithinState) -> Health:
        """Turn the coordinates."""
        return self.outer.refresh(state.outer)
