"""What preconditioners share that show another one something else: its declarations are theirs."""

from __future__ import annotations

from typing import Any, TypeVar

from precond.core import Need, Preconditioner, Scope, Traits

S = TypeVar("S")


class Around(Preconditioner[S]):
    """A preconditioner around an inner one; subclasses say what that one sees, and what is different."""

    inner: Preconditioner[Any]

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

    @property
    def refreshes(self) -> bool:
        """Whether the inner preconditioner does."""
        return self.inner.refreshes
