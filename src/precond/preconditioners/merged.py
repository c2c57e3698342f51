"""Preconditioners that see tensors with fewer, longer axes."""

from __future__ import annotations

import dataclasses
from typing import Any, final

from torch import Tensor

from precond.core import Preconditioner
from precond.math.shapes import merge_dims
from precond.preconditioners.reshaped import Reshaped


@final
@dataclasses.dataclass(frozen=True)
class Merged(Reshaped):
    """Merge neighbouring axes from left to right while they stay within a limit: 64 x 8 x 3 x 3 becomes 64 x 72.

    Source: Anil et al. (arXiv 2002.09018).

    Attributes:
        inner: The preconditioner; it must not need an operator.
        limit: Largest length to merge to. Small matrices become vectors.
    """

    inner: Preconditioner[Any]
    limit: int = 128

    def view(self, v: Tensor) -> Tensor:
        """Return ``v`` with merged axes."""
        return v.reshape(v.shape[0], *merge_dims(v.shape[1:], self.limit))


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
