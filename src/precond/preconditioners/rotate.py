"""A preconditioner that runs in another basis."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

from torch import Tensor

from precond.core import (
    BadInputError,
    Evidence,
    Health,
    IncompatibleError,
    Need,
    Preconditioner,
    Scope,
    Traits,
    Turned,
    named_tensors,
    need,
)
from precond.math.tensors.orders import rows_in_order
from precond.preconditioners.eigenbasis import Eigenbasis
from precond.preconditioners.fitted_eigenbasis import FittedEigenbasis


@dataclasses.dataclass
class RotateState:
    """State of `Rotate`.

    Attributes:
        basis: State of the basis.
        inner: State of the preconditioner that runs in it.
    """

    basis: Any
    inner: Any


@final
@dataclasses.dataclass(frozen=True)
class Rotate(Turned[RotateState]):
    """``Q P Q^T`` with an orthogonal ``Q`` that turns at each refresh: SOAP is `Diagonal` in Shampoo's `Eigenbasis`.

    The inner state is never rotated; when a refresh sorts the axes of the basis anew, it is permuted along.

    Attributes:
        basis: The basis.
        inner: An elementwise preconditioner to run in it.
        growth: By how much a turn may lengthen the longest entry of a direction, which is what a momentum gets where
            the inner preconditioner has seen little in the new coordinates; ``None`` for however much.
    """

    scope: ClassVar[Scope] = Scope.MATRIX
    basis: Eigenbasis | FittedEigenbasis
    inner: Preconditioner[Any]
    growth: float | None = None

    def __post_init__(self) -> None:
        """Check that the inner state can be permuted entry by entry."""
        if self.inner.scope is not Scope.ELEMENTWISE:
            raise IncompatibleError(
                f"only elementwise parts run in a turning basis, not {type(self.inner).__name__}; use Diagonal"
            )
        if self.growth is not None and not self.growth >= 1.0:
            raise BadInputError(f"a turn must be allowed to lengthen directions by at least 1, not {self.growth}")

    @property
    def needs(self) -> Need:
        """What the basis and the inner preconditioner need."""
        return self.basis.needs | self.inner.needs

    @property
    def traits(self) -> Traits:
        """Those of the inner preconditioner: an orthogonal change of basis keeps them all."""
        return dataclasses.replace(self.inner.traits, turns=True)

    @property
    def elementwise(self) -> Preconditioner[Any]:
        """The inner preconditioner, in the basis of the tensor itself."""
        return self.inner

    def init(self, like: Tensor) -> RotateState:
        """Start both."""
        return RotateState(self.basis.init(like), self.inner.init(self.basis.coordinates(like)))

    def coordinates(self, like: Tensor) -> Tensor:
        """Return a tensor shaped as coordinates in the basis are."""
        return self.basis.coordinates(like)

    def prime(self, state: RotateState, evidence: Evidence) -> Health:
        """Find the first basis; the inner preconditioner has nothing to see before there is one."""
        return self.basis.prime(state.basis, evidence)

    def enter(self, state: RotateState, v: Tensor) -> Tensor:
        """Return the coordinates of ``v`` in the basis."""
        return self.basis.enter(state.basis, v)

    def leave(self, state: RotateState, v: Tensor) -> Tensor:
        """Return the vector whose coordinates in the basis are ``v``."""
        return self.basis.leave(state.basis, v)

    def observe_within(self, state: RotateState, within: Tensor, evidence: Evidence) -> None:
        """Show the inner preconditioner the gradient in the present basis, then the basis the gradient itself."""
        previous = evidence.previous
        if Need.PREVIOUS in self.inner.needs:
            previous = self.basis.enter(state.basis, need(previous, "previous"))
        self.inner.observe(state.inner, dataclasses.replace(evidence, gradient=within, previous=previous))
        self.basis.observe(state.basis, evidence, within)

    def refresh(self, state: RotateState) -> Health:
        """Turn the basis, permute the inner state along, and refresh the inner preconditioner."""
        orders, health = self.basis.refresh(state.basis)
        for _, tensor in named_tensors(state.inner):
            if tensor.ndim == 1 + len(orders):  # counters have the batch alone
                _permute(tensor, orders)
        return health + self.inner.refresh(state.inner)

    def apply_within(self, state: RotateState, within: Tensor, *, shift: float = 0.0) -> Tensor:
        """Apply the inner preconditioner."""
        return self.inner.apply(state.inner, within, shift=shift)


def _permute(tensor: Tensor, orders: list[Tensor | None]) -> None:
    """Sort each axis of ``tensor`` after the batch, in place, by its permutation ``[batch, n]``."""
    sorted_ = tensor
    for axis, order in enumerate(orders, start=1):
        if order is not None and axis == 1:
            sorted_ = rows_in_order(sorted_, order)
        elif order is not None:
            shape = [1] * tensor.ndim
            shape[0], shape[axis] = order.shape
            sorted_ = sorted_.gather(axis, order.view(shape).expand_as(tensor))
    tensor.copy_(sorted_)
