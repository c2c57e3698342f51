"""A preconditioner that treats each tile of a tensor as a tensor of its own."""

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
    map_tensors,
    need,
)
from precond.math.tiles import from_tiles, tile_sides, to_tiles


@dataclasses.dataclass
class BlockedState:
    """State of `Blocked`.

    Attributes:
        inner: State of the inner preconditioner, each tensor ``[batch, tiles, ...]``.
        dims: Axes of a tensor, the batch not counted.
    """

    inner: Any
    dims: tuple[int, ...]


@final
@dataclasses.dataclass(frozen=True)
class Blocked(Turned[BlockedState]):
    """Cut every tensor into tiles no longer than ``size`` on any axis, and precondition the tiles, all in one batch.

    The curvature is taken to be block diagonal. Axes are cut evenly; where that leaves a remainder, tiles overhang and
    the overhang is zero. The coordinates are those of the inner preconditioner, if it has any.

    Source: the blocking of Scalable Shampoo (arXiv 2002.09018).

    Attributes:
        size: Longest side of a tile.
        inner: The preconditioner of the tiles.
    """

    scope: ClassVar[Scope] = Scope.MATRIX
    size: int
    inner: Preconditioner[Any]

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.size < 1:
            raise BadInputError(f"the side of a tile must be at least 1, not {self.size}")
        if self.inner.scope is Scope.GLOBAL:
            raise IncompatibleError(
                f"{type(self.inner).__name__} acts on all parameters as one vector, which has no tiles; use Kronecker "
                "or Rotate"
            )

    @property
    def needs(self) -> Need:
        """What the inner preconditioner needs."""
        return self.inner.needs

    @property
    def traits(self) -> Traits:
        """Those of the inner preconditioner."""
        return self.inner.traits

    def init(self, like: Tensor) -> BlockedState:
        """Start the inner preconditioner on the tiles."""
        batch = like.shape[0]
        inner = self.inner.init(self._cut(like))
        return BlockedState(map_tensors(lambda t: t.unflatten(0, (batch, -1)), inner), tuple(like.shape[1:]))

    def prime(self, state: BlockedState, evidence: Evidence) -> None:
        """Prime with the tiles."""
        self.inner.prime(_flat(state), self._seen(evidence))

    @property
    def refreshes(self) -> bool:
        """Whether the inner preconditioner does."""
        return self.inner.refreshes

    def refresh(self, state: BlockedState) -> Health:
        """Refresh the tiles."""
        return self.inner.refresh(_flat(state))

    def coordinates(self, like: Tensor) -> Tensor:
        """Return ``like`` cut into tiles, ``[batch, tiles, ...]``."""
        return self._cut(like).unflatten(0, (like.shape[0], -1))

    def enter(self, state: BlockedState, v: Tensor) -> Tensor:
        """Return the coordinates of the tiles of ``v``."""
        tiles = self._cut(v)
        within = self.inner.enter(_flat(state), tiles) if isinstance(self.inner, Turned) else tiles
        return within.unflatten(0, (v.shape[0], -1))

    def leave(self, state: BlockedState, v: Tensor) -> Tensor:
        """Return the vector whose tiles have the coordinates ``v``."""
        tiles = v.flatten(0, 1)
        if isinstance(self.inner, Turned):
            tiles = self.inner.leave(_flat(state), tiles)
        return from_tiles(tiles, tile_sides(state.dims, self.size), (v.shape[0], *state.dims))

    def observe_within(self, state: BlockedState, within: Tensor, evidence: Evidence) -> None:
        """Let the inner preconditioner observe the tiles."""
        if isinstance(self.inner, Turned):
            self.inner.observe_within(_flat(state), within.flatten(0, 1), self._seen(evidence))
        else:
            self.inner.observe(_flat(state), self._seen(evidence))

    def apply_within(self, state: BlockedState, within: Tensor, *, shift: float = 0.0) -> Tensor:
        """Apply the inner preconditioner to the tiles."""
        apply = self.inner.apply_within if isinstance(self.inner, Turned) else self.inner.apply
        return apply(_flat(state), within.flatten(0, 1), shift=shift).unflatten(0, (within.shape[0], -1))

    def _cut(self, v: Tensor) -> Tensor:
        return to_tiles(v, tile_sides(v.shape[1:], self.size))

    def _seen(self, evidence: Evidence) -> Evidence:
        seen, counted = evidence.reshaped(self._cut), evidence.counted
        if counted is not None and evidence.gradient is not None:  # a member's tiles follow one another
            tiles = len(need(seen.gradient, "gradient")) // len(evidence.gradient)
            counted = [member * tiles + tile for member in counted for tile in range(tiles)]
        return dataclasses.replace(seen, counted=counted)


def _flat(state: BlockedState) -> Any:
    """Return the inner state with the tiles as batch: views, so that writing to them writes to the state."""
    return map_tensors(lambda t: t.view(-1, *t.shape[2:]), state.inner)
