"""Which part of a tensor each process holds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import IncompatibleError


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangular part of a tensor.

    Attributes:
        start: First index along each axis.
        shape: Extent along each axis; an empty part has a zero.
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def cut(self, whole: Tensor) -> Tensor:
        """Return this part of a whole tensor, as a view."""
        for axis, (start, length) in enumerate(zip(self.start, self.shape, strict=True)):
            whole = whole.narrow(axis, start, length)
        return whole


def whole_box(shape: Sequence[int]) -> Box:
    """Return the part that is everything."""
    return Box((0,) * len(shape), tuple(shape))


def box_at(shape: Sequence[int], mesh: Sequence[int], coordinate: Sequence[int], placements: Sequence[Any]) -> Box:
    """Return what the process at one coordinate of a mesh holds of a DTensor.

    Args:
        shape: Shape of the whole tensor.
        mesh: Shape of the mesh.
        coordinate: Where the process is.
        placements: One placement of `torch.distributed.tensor` for each axis of the mesh.

    Returns:
        The part; replicas hold equal ones.

    Raises:
        IncompatibleError: The part is not a box, or not a part.
    """
    held = [torch.arange(length) for length in shape]
    for length, place, placement in zip(mesh, coordinate, placements, strict=True):
        if placement.is_replicate():
            continue
        axis = getattr(placement, "dim", None)
        if axis is None or placement.is_partial():
            raise IncompatibleError(f"a parameter with placement {placement} has no parts: use Shard or Replicate")
        pieces = [held[axis]]
        if hasattr(placement, "split_factor"):  # an inner axis of the mesh, which comes later, was cut first
            pieces = list(held[axis].chunk(placement.split_factor))
        held[axis] = torch.cat([_chunk(piece, length, place) for piece in pieces])
    if any(len(rows) and int(rows[-1] - rows[0]) + 1 != len(rows) for rows in held):
        raise IncompatibleError(
            f"placements {tuple(placements)} on a mesh of shape {tuple(mesh)} scatter the rows of a tensor of shape "
            f"{tuple(shape)} over processes: use sizes that the mesh divides, or Shard and Replicate alone"
        )
    return Box(tuple(int(rows[0]) if len(rows) else 0 for rows in held), tuple(len(rows) for rows in held))


def _chunk(rows: Tensor, pieces: int, which: int) -> Tensor:
    """Return one of the pieces of `torch.chunk`, of which the last ones may be short or empty."""
    length = -(-len(rows) // pieces)
    return rows[which * length : (which + 1) * length]
