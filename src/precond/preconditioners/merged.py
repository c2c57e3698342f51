"""Preconditioners that see tensors with fewer, longer axes."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, final

from torch import Tensor

from precond.core import BadInputError, Preconditioner
from precond.math.tensors.shapes import merge_dims, merge_last_dims
from precond.preconditioners.reshaped import Reshaped


@final
@dataclasses.dataclass(frozen=True)
class Merged(Reshaped):
    """Merge neighbouring axes while they stay within a limit: 64 x 8 x 3 x 3 becomes 64 x 72.

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

    def view(self, v: Tensor) -> Tensor:
        """Return ``v`` with merged axes."""
        dims = v.shape[1:]
        right = self.start == "right"
        merged = merge_last_dims(dims, self.limit, self.fewest) if right else merge_dims(dims, self.limit)
        return v.reshape(v.shape[0], *merged)


@final
@dataclasses.dataclass(frozen=True)
class AsMatrix(Reshaped):
    """Leave axes of length one out, and merge all others but the first: 64 x 8 x 3 x 3 becomes 64 x 72.

    Source: the published code of 4-bit Shampoo (arXiv 2405.18144).

    Attributes:
        inner: The preconditioner; it must not need an operator.
    """

    inner: Preconditioner[Any]

    def view(self, v: Tensor) -> Tensor:
        """Return ``v`` as matrices or vectors."""
        dims = [dim for dim in v.shape[1:] if dim != 1] or [1]
        return v.reshape(v.shape[0], dims[0], -1) if len(dims) > 1 else v.reshape(v.shape[0], -1)
