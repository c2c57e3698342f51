"""A preconditioner that observes a filtered signal."""

from __future__ import annotations

import dataclasses
from typing import Any, final

from torch import Tensor

from precond.core import Evidence, Filter, Health, Need, Preconditioner, Scope, need
from precond.preconditioners.around import Around


@dataclasses.dataclass
class ObservingState:
    """State of `Observing`.

    Attributes:
        lens: State of the filter.
        inner: State of the preconditioner.
    """

    lens: Any
    inner: Any


@final
@dataclasses.dataclass(frozen=True)
class Observing(Around[ObservingState]):
    """Show a preconditioner the gradient through a filter; its map stays its own. Adan's second moment is one.

    Attributes:
        lens: The filter.
        inner: The preconditioner.
    """

    lens: Filter[Any]
    inner: Preconditioner[Any]

    @property
    def needs(self) -> Need:
        """What filter and preconditioner need."""
        return Need.GRADIENT | self.lens.needs | self.inner.needs

    @property
    def scope(self) -> Scope:
        """That of the preconditioner, unless the filter looks at more than entries."""
        return self.lens.scope if self.inner.scope is Scope.ELEMENTWISE else self.inner.scope

    @property
    def elementwise(self) -> Preconditioner[Any] | None:
        """The elementwise form of the preconditioner, seen through the same filter."""
        inner = self.inner.elementwise
        return None if inner is None else Observing(self.lens, inner)

    def init(self, like: Tensor) -> ObservingState:
        """Start both."""
        return ObservingState(self.lens.init(like), self.inner.init(like))

    def prime(self, state: ObservingState, evidence: Evidence) -> Health:
        """Prime with what the filter shows."""
        return self.inner.prime(state.inner, self._through(state, evidence))

    def observe(self, state: ObservingState, evidence: Evidence) -> None:
        """Observe what the filter shows."""
        self.inner.observe(state.inner, self._through(state, evidence))

    def refresh(self, state: ObservingState) -> Health:
        """Refresh the preconditioner."""
        return self.inner.refresh(state.inner)

    def apply(self, state: ObservingState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Apply the preconditioner."""
        return self.inner.apply(state.inner, v, shift=shift)

    def _through(self, state: ObservingState, evidence: Evidence) -> Evidence:
        seen = self.lens.push(state.lens, need(evidence.gradient, "gradient"), evidence)
        return dataclasses.replace(evidence, gradient=seen)
