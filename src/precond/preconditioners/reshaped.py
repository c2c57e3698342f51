"""What preconditioners share that show another one their tensors in another shape."""

from __future__ import annotations

import abc
from typing import Any

from torch import Tensor

from precond.core import Evidence, Health, Need, Preconditioner, Scope, Traits


class Reshaped(Preconditioner[Any]):
    """The inner preconditioner on tensors as `view` shows them; its state is the inner one's."""

    inner: Preconditioner[Any]

    @abc.abstractmethod
    def view(self, v: Tensor) -> Tensor:
        """Return ``v``, ``[batch, *shape]``, with the same entries in another shape."""

    @property
    def needs(self) -> Need:
        """What the inner preconditioner needs."""
        return self.inner.needs

    @property
    def scope(self) -> Scope:
        """That of the inner preconditioner."""
        return self.inner.scope

    @property
    def traits(self) -> Traits:
        """Those of the inner preconditioner."""
        return self.inner.traits

    @property
    def elementwise(self) -> Preconditioner[Any] | None:
        """That of the inner preconditioner."""
        return self.inner.elementwise

    def init(self, like: Tensor) -> Any:
        """Start the inner preconditioner on the other shape."""
        return self.inner.init(self.view(like))

    def prime(self, state: Any, evidence: Evidence) -> None:
        """Prime the inner preconditioner."""
        self.inner.prime(state, self._seen(evidence))

    def observe(self, state: Any, evidence: Evidence) -> None:
        """Let the inner preconditioner observe."""
        self.inner.observe(state, self._seen(evidence))

    @property
    def refreshes(self) -> bool:
        """Whether the inner preconditioner does."""
        return self.inner.refreshes

    def refresh(self, state: Any) -> Health:
        """Refresh the inner preconditioner."""
        return self.inner.refresh(state)

    def apply(self, state: Any, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Apply the inner preconditioner."""
        return self.inner.apply(state, self.view(v), shift=shift).reshape(v.shape)

    def _seen(self, evidence: Evidence) -> Evidence:
        return evidence.reshaped(self.view)
