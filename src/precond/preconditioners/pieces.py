"""What preconditioners share that cut every tensor into pieces and treat each as a tensor of its own."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

from torch import Tensor

from precond.core import (
    Evidence,
    Health,
    IncompatibleError,
    Preconditioner,
    Scope,
    Turned,
    merge_members,
    named_tensors,
    split_members,
)
from precond.preconditioners.around import Around


@dataclasses.dataclass
class PiecesState:
    """State of a preconditioner of pieces.

    Attributes:
        inner: State of the inner preconditioner, each tensor ``[batch, pieces, ...]``.
        dims: Axes of a tensor, the batch not counted.
    """

    inner: Any
    dims: tuple[int, ...]


class Pieces(Around[PiecesState], Turned[PiecesState]):
    """Precondition pieces of every tensor, all in one batch: the curvature is taken to be block diagonal.

    Subclasses are frozen dataclasses that say how to cut and join. The coordinates are those of the inner
    preconditioner, if it has any.

    Attributes:
        inner: The preconditioner of the pieces.
    """

    scope: ClassVar[Scope] = Scope.MATRIX
    inner: Preconditioner[Any]

    def __post_init__(self) -> None:
        """Check that pieces make sense."""
        if self.inner.scope is Scope.GLOBAL:
            raise IncompatibleError(
                f"{type(self.inner).__name__} acts on all parameters as one vector, which has no pieces; use Kronecker "
                "or Rotate"
            )

    @property
    def growth(self) -> float | None:
        """That of the inner preconditioner."""
        return self.inner.growth if isinstance(self.inner, Turned) else None

    @abc.abstractmethod
    def cut(self, v: Tensor) -> Tensor:
        """Return the pieces of ``[batch, *dims]`` as ``[batch * pieces, ...]``."""

    @abc.abstractmethod
    def join(self, pieces: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the tensor of this shape, ``[batch, *dims]``, that has these pieces."""

    def init(self, like: Tensor) -> PiecesState:
        """Start the inner preconditioner on the pieces."""
        return PiecesState(split_members(self.inner.init(self.cut(like)), like.shape[0]), tuple(like.shape[1:]))

    def prime(self, state: PiecesState, evidence: Evidence) -> Health:
        """Prime with the pieces."""
        return _whole(self.inner.prime(merge_members(state.inner), self._seen(evidence)), state)

    def refresh(self, state: PiecesState) -> Health:
        """Refresh the pieces."""
        return _whole(self.inner.refresh(merge_members(state.inner)), state)

    def coordinates(self, like: Tensor) -> Tensor:
        """Return the coordinates of the pieces of ``like``, ``[batch, pieces, ...]``."""
        pieces = self.cut(like)
        within = self.inner.coordinates(pieces) if isinstance(self.inner, Turned) else pieces
        return within.unflatten(0, (like.shape[0], -1))

    def enter(self, state: PiecesState, v: Tensor) -> Tensor:
        """Return the coordinates of the pieces of ``v``."""
        pieces = self.cut(v)
        within = self.inner.enter(merge_members(state.inner), pieces) if isinstance(self.inner, Turned) else pieces
        return within.unflatten(0, (v.shape[0], -1))

    def leave(self, state: PiecesState, v: Tensor) -> Tensor:
        """Return the vector whose pieces have the coordinates ``v``."""
        pieces = v.flatten(0, 1)
        if isinstance(self.inner, Turned):
            pieces = self.inner.leave(merge_members(state.inner), pieces)
        return self.join(pieces, (v.shape[0], *state.dims))

    def observe_within(self, state: PiecesState, within: Tensor, evidence: Evidence) -> None:
        """Let the inner preconditioner observe the pieces."""
        if isinstance(self.inner, Turned):
            self.inner.observe_within(merge_members(state.inner), within.flatten(0, 1), self._seen(evidence))
        else:
            self.inner.observe(merge_members(state.inner), self._seen(evidence))

    def apply_within(self, state: PiecesState, within: Tensor, *, shift: float = 0.0) -> Tensor:
        """Apply the inner preconditioner to the pieces."""
        apply = self.inner.apply_within if isinstance(self.inner, Turned) else self.inner.apply
        return apply(merge_members(state.inner), within.flatten(0, 1), shift=shift).unflatten(0, (within.shape[0], -1))

    def _seen(self, evidence: Evidence) -> Evidence:
        return evidence.reshaped(self.cut)


def _whole(health: Health, state: PiecesState) -> Health:
    """Return the report on members whose pieces were reported on."""
    if health.members is None:
        return health
    batch = next(tensor for _, tensor in named_tensors(state.inner)).shape[0]
    return dataclasses.replace(health, members=health.members.view(batch, -1).any(1))
