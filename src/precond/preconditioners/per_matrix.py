"""A preconditioner that treats each matrix in a tensor as a tensor of its own."""

from __future__ import annotations

import dataclasses
from typing import Any, final

from torch import Tensor

from precond.core import BadInputError, Preconditioner
from precond.math.tensors.stacks import Stack
from precond.preconditioners.pieces import Pieces


@final
@dataclasses.dataclass(frozen=True)
class PerMatrix(Pieces):
    """Precondition every matrix that a tensor holds: each expert, each of query, key and value, a flattened kernel.

    Attributes:
        stack: How tensors hold matrices.
        inner: The preconditioner of the matrices.
    """

    stack: Stack
    inner: Preconditioner[Any]

    def cut(self, v: Tensor) -> Tensor:
        """Return the matrices."""
        if not self.stack.fits(v.shape[1:]):
            raise BadInputError(
                f"a tensor of shape {tuple(v.shape[1:])} cannot be cut into {self.stack.count} along axis "
                f"{self.stack.axis}"
            )
        return self.stack.take_apart(v)

    def join(self, pieces: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the tensor that holds them."""
        return self.stack.put_together(pieces, shape[1:])
