"""A preconditioner that sees tensors with fewer, longer axes."""

from __future__ import annotations

import dataclasses
from typing import Any, final

from torch import Tensor

from precond.core import Evidence, Health, Need, Preconditioner, Scope, Traits
from precond.math.shapes import merge_dims


@final
@dataclasses.dataclass(frozen=True)
class Merged(Preconditioner[Any]):
    """Merge neighbouring axes from left to right while they stay within a limit: 64 x 8 x 3 x 3 becomes 64 x 72.

    Source: Anil et al. (arXiv 2002.09018).

    Attributes:
        inner: The preconditioner; it must not need an operator.
        limit: Largest length to merge to. Small matrices become vectors.
    """

    inner: Preconditioner[Any]
    limit: int = 128

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
        """Start the inner preconditioner on merged axes."""
        return self.inner.init(self._merge(like))

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
        return self.inner.apply(state, self._merge(v), shift=shift).reshape(v.shape)

    def _merge(self, v: Tensor) -> Tensor:
        return v.reshape(v.shape[0], *merge_dims(v.shape[1:], self.limit))

    def _seen(self, evidence: Evidence) -> Evidence:
        gradient, previous = (None if v is None else self._merge(v) for v in (evidence.gradient, evidence.previous))
        return dataclasses.replace(evidence, gradient=gradient, previous=previous)
