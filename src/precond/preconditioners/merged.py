"""A preconditioner that sees tensors with fewer, longer axes."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, final

from torch import Tensor

from precond.core import BadInputError, Evidence, Health, Need, Preconditioner, Scope, Traits, Turned
from precond.math.shapes import merge_dims, merge_last_dims


@dataclasses.dataclass
class MergedState:
    """State of `Merged`.

    Attributes:
        inner: State of the inner preconditioner.
        dims: Axes of a tensor, the batch not counted.
    """

    inner: Any
    dims: tuple[int, ...]


@final
@dataclasses.dataclass(frozen=True)
class Merged(Turned[MergedState]):
    """Merge neighbouring axes while they stay within a limit: 64 x 8 x 3 x 3 becomes 64 x 72.

    The coordinates are those of the inner preconditioner, if it has any.

    Sources: Anil et al. (arXiv 2002.09018) from the left; Shi et al. (arXiv 2309.06497) from the right.

    Attributes:
        inner: The preconditioner; it must not need an operator.
        limit: Largest length to merge to. Small matrices become vectors.
        start: ``"left"`` or ``"right"``: the end from which axes are merged.
        fewest: How many axes to keep, where there are as many; from the right alone.
    """

    inner: Preconditioner[Any]
    limit: int = 128
    start: Literal["left", "right"] = "left"
    fewest: int = 1

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.start not in ("left", "right"):
            raise BadInputError(f"axes are merged from the 'left' or the 'right', not {self.start!r}")
        if self.limit < 1 or self.fewest < 1 or (self.fewest > 1 and self.start == "left"):
            raise BadInputError("the limit must be positive, and keeping axes needs start='right'")

    @property
    def needs(self) -> Need:
        """What the inner preconditioner needs."""
        return self.inner.needs

    @property
    def scope(self) -> Scope:  # type: ignore[override]  # that of the part inside
        """That of the inner preconditioner."""
        return self.inner.scope

    @property
    def traits(self) -> Traits:
        """Those of the inner preconditioner."""
        return self.inner.traits

    def init(self, like: Tensor) -> MergedState:
        """Start the inner preconditioner on merged axes."""
        return MergedState(self.inner.init(self._merge(like)), tuple(like.shape[1:]))

    def prime(self, state: MergedState, evidence: Evidence) -> None:
        """Prime the inner preconditioner."""
        self.inner.prime(state.inner, evidence.reshaped(self._merge))

    @property
    def refreshes(self) -> bool:
        """Whether the inner preconditioner does."""
        return self.inner.refreshes

    def refresh(self, state: MergedState) -> Health:
        """Refresh the inner preconditioner."""
        return self.inner.refresh(state.inner)

    def coordinates(self, like: Tensor) -> Tensor:
        """Return a tensor shaped as the coordinates of the inner preconditioner."""
        merged = self._merge(like)
        return self.inner.coordinates(merged) if isinstance(self.inner, Turned) else merged

    def enter(self, state: MergedState, v: Tensor) -> Tensor:
        """Return the coordinates of ``v`` with merged axes."""
        merged = self._merge(v)
        return self.inner.enter(state.inner, merged) if isinstance(self.inner, Turned) else merged

    def leave(self, state: MergedState, v: Tensor) -> Tensor:
        """Return the vector whose merged form has the coordinates ``v``."""
        merged = self.inner.leave(state.inner, v) if isinstance(self.inner, Turned) else v
        return merged.reshape(v.shape[0], *state.dims)

    def observe_within(self, state: MergedState, within: Tensor, evidence: Evidence) -> None:
        """Let the inner preconditioner observe."""
        merged = evidence.reshaped(self._merge)
        if isinstance(self.inner, Turned):
            self.inner.observe_within(state.inner, within, merged)
        else:
            self.inner.observe(state.inner, merged)

    def apply_within(self, state: MergedState, within: Tensor, *, shift: float = 0.0) -> Tensor:
        """Apply the inner preconditioner."""
        apply = self.inner.apply_within if isinstance(self.inner, Turned) else self.inner.apply
        return apply(state.inner, within, shift=shift)

    def _merge(self, v: Tensor) -> Tensor:
        dims = v.shape[1:]
        right = self.start == "right"
        merged = merge_last_dims(dims, self.limit, self.fewest) if right else merge_dims(dims, self.limit)
        return v.reshape(v.shape[0], *merged)
