"""A preconditioner whose state outlives one solve: for adjoint solves, and for sequences of systems."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from precond.core import Evidence, Health, Need, Operator, Preconditioner, Traits


class _Held(Preconditioner[Any]):
    """A part with its state; set up on first use, then applied as it is until ``stale`` is set.

    Args:
        part: The preconditioner.
    """

    def __init__(self, part: Preconditioner[Any]) -> None:
        self.part = part
        self.state: Any = None
        self.stale = True
        self.shape: Any = None

    @property
    def needs(self) -> Need:
        """What the part needs."""
        return self.part.needs

    @property
    def traits(self) -> Traits:
        """What kind of map the part is."""
        return self.part.traits

    @property
    def refreshes(self) -> bool:
        """Whether there is something to set up."""
        return self.stale and self.part.refreshes

    def init(self, like: Tensor) -> Any:
        """Return the state that is held, or a new one for vectors of another shape or type."""
        shape = (like.shape, like.dtype, like.device)
        if self.state is None or self.shape != shape:
            self.state, self.shape, self.stale = self.part.init(like), shape, True
        return self.state

    def observe(self, state: Any, evidence: Evidence) -> None:
        """Show the part the matrix when it is to be set up."""
        if self.stale:
            self.part.observe(state, evidence)
            self.stale = self.part.refreshes

    def refresh(self, state: Any) -> Health:
        """Set the part up."""
        self.stale = False
        return self.part.refresh(state)

    def apply(self, state: Any, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Apply the part."""
        return self.part.apply(state, v, shift=shift)

    def metric(self, state: Any, v: Tensor) -> Tensor:
        """Return the part's metric times a vector."""
        return self.part.metric(state, v)

    def guess(self, state: Any, b: Tensor) -> Tensor | None:
        """Return the part's guess of a solution."""
        return self.part.guess(state, b)

    def compiled(self, state: Any) -> tuple[Any, ...] | None:
        """Return the arrays of the part."""
        return self.part.compiled(state)

    def apply_adjoint(self, state: Any, v: Tensor) -> Tensor:
        """Apply the adjoint of the part."""
        return self.part.apply_adjoint(state, v)

    @property
    def adjoint(self) -> Preconditioner[Any]:
        """The adjoint map, with the same state."""
        return _Adjoint(self)


Held = _Held
"""The name for drivers; the class itself is no part: it is mutable, and holds its own state."""


class _Adjoint(Preconditioner[Any]):
    """The adjoint of a held preconditioner: there is nothing to set up."""

    def __init__(self, held: _Held) -> None:
        self.held = held

    @property
    def traits(self) -> Traits:
        return self.held.traits

    def init(self, like: Tensor) -> Any:
        return self.held.state

    def apply(self, state: Any, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return self.held.apply_adjoint(state, v)


class AdjointOperator(Operator):
    """``A^H``, by the products of ``A``.

    Args:
        inner: The operator ``A``, with an adjoint.
    """

    def __init__(self, inner: Operator) -> None:
        self.inner = inner
        self.shape = (inner.shape[1], inner.shape[0])
        self.dtype, self.device, self.traits = inner.dtype, inner.device, inner.traits

    @property
    def has_adjoint(self) -> bool:
        """Always: it is ``A``."""
        return True

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A^H x`` for each row of ``x``."""
        return self.inner.rmatvec(x)

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A y`` for each row of ``y``."""
        return self.inner.matvec(y)

    def frobenius_norm(self) -> float | None:
        """Return the norm of ``A``."""
        return self.inner.frobenius_norm()

    def double(self) -> Operator:
        """Return the adjoint of ``A`` in double precision."""
        double = self.inner.double()
        return self if double is self.inner else AdjointOperator(double)
