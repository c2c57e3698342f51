"""What preconditioners share that show another one their tensors in another shape."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

from torch import Tensor

from precond.core import Evidence, Health, Preconditioner, Turned
from precond.preconditioners.around import Around


@dataclasses.dataclass
class ReshapedState:
    """State of a `Reshaped`.

    Attributes:
        inner: State of the inner preconditioner.
        dims: Axes of a tensor, the batch not counted.
    """

    inner: Any
    dims: tuple[int, ...]


class Reshaped(Around[ReshapedState], Turned[ReshapedState]):
    """The inner preconditioner on tensors as `view` shows them; the coordinates are its own, if it has any."""

    inner: Preconditioner[Any]

    @abc.abstractmethod
    def view(self, v: Tensor) -> Tensor:
        """Return ``v``, ``[batch, *shape]``, with the same entries in another shape."""

    def init(self, like: Tensor) -> ReshapedState:
        """Start the inner preconditioner on the other shape."""
        return ReshapedState(self.inner.init(self.view(like)), tuple(like.shape[1:]))

    def prime(self, state: ReshapedState, evidence: Evidence) -> Health:
        """Prime the inner preconditioner."""
        return self.inner.prime(state.inner, evidence.reshaped(self.view))

    def refresh(self, state: ReshapedState) -> Health:
        """Refresh the inner preconditioner."""
        return self.inner.refresh(state.inner)

    @property
    def growth(self) -> float | None:
        """That of the inner preconditioner."""
        return self.inner.growth if isinstance(self.inner, Turned) else None

    def coordinates(self, like: Tensor) -> Tensor:
        """Return a tensor shaped as the coordinates of the inner preconditioner."""
        view = self.view(like)
        return self.inner.coordinates(view) if isinstance(self.inner, Turned) else view

    def enter(self, state: ReshapedState, v: Tensor) -> Tensor:
        """Return the coordinates of ``v`` in the other shape."""
        view = self.view(v)
        return self.inner.enter(state.inner, view) if isinstance(self.inner, Turned) else view

    def leave(self, state: ReshapedState, v: Tensor) -> Tensor:
        """Return the vector that in the other shape has the coordinates ``v``."""
        view = self.inner.leave(state.inner, v) if isinstance(self.inner, Turned) else v
        return view.reshape(v.shape[0], *state.dims)

    def observe_within(self, state: ReshapedState, within: Tensor, evidence: Evidence) -> None:
        """Let the inner preconditioner observe."""
        seen = evidence.reshaped(self.view)
        if isinstance(self.inner, Turned):
            self.inner.observe_within(state.inner, within, seen)
        else:
            self.inner.observe(state.inner, seen)

    def apply_within(self, state: ReshapedState, within: Tensor, *, shift: float = 0.0) -> Tensor:
        """Apply the inner preconditioner."""
        apply = self.inner.apply_within if isinstance(self.inner, Turned) else self.inner.apply
        return apply(state.inner, within, shift=shift)
