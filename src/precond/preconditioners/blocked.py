"""A preconditioner that treats each tile of a tensor as a tensor of its own."""

from __future__ import annotations

import dataclasses
from typing import Any, final

from torch import Tensor

from precond.core import BadInputError, Preconditioner
from precond.math.tensors.tiles import from_tiles, tile_sides, to_tiles
from precond.preconditioners.pieces import Pieces


@final
@dataclasses.dataclass(frozen=True)
class Blocked(Pieces):
    """Cut every tensor into tiles no longer than ``size`` on any axis, and precondition the tiles, all in one batch.

    The curvature is taken to be block diagonal. Axes are cut evenly; where that leaves a remainder, tiles overhang and
    the overhang is zero. The coordinates are those of the inner preconditioner, if it has any.

    Source: the blocking of Scalable Shampoo (arXiv 2002.09018).

    Attributes:
        size: Longest side of a tile.
        inner: The preconditioner of the tiles.
        longest: Axes longer than this are not cut, for an inner preconditioner that leaves such axes as they are.
    """

    size: int
    inner: Preconditioner[Any]
    longest: int | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.size < 1:
            raise BadInputError(f"the side of a tile must be at least 1, not {self.size}")
        super().__post_init__()

    def cut(self, v: Tensor) -> Tensor:
        """Return the tiles, those that overhang filled with zeros."""
        return to_tiles(v, tile_sides(v.shape[1:], self.size, self.longest))

    def join(self, pieces: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the tensor without what overhangs."""
        return from_tiles(pieces, tile_sides(shape[1:], self.size, self.longest), shape)
