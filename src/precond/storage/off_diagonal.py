"""Matrices with an exact diagonal and codes for everything else."""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from precond.core import Resting, Role, Storage
from precond.math.tensors.codes import Code, linear_square
from precond.storage.blocks import Blocks


@final
@dataclasses.dataclass
class Diagonalized(Resting):
    """Square matrices, the diagonal apart.

    Attributes:
        diagonal: Shape ``[batch, ..., n]``, exact.
        rest: The matrices with zeros on the diagonal.
    """

    diagonal: Tensor
    rest: Blocks

    def decode(self) -> Tensor:
        """Put the diagonal in its place."""
        matrices = self.rest.decode()
        matrices.diagonal(dim1=-2, dim2=-1).copy_(self.diagonal)
        return matrices

    def encode(self, working: Tensor) -> None:
        """Keep the diagonal, encode the rest."""
        self.diagonal.copy_(working.diagonal(dim1=-2, dim2=-1))
        self.rest.encode(without_diagonal(working))


@final
@dataclasses.dataclass(frozen=True)
class OffDiagonal(Storage):
    """Square matrices with an exact diagonal and codes beside it; what is not square rests as it works.

    Source: the inverse roots of 4-bit Shampoo (arXiv 2405.18144).

    Attributes:
        code: Of what is not on the diagonal.
        block: Entries that share a scale.
        least: Smaller matrices, by entries, rest as they work.
    """

    code: Code = linear_square(4)
    block: int = 64
    least: int = 4096

    def rest(self, working: Tensor, role: Role) -> Tensor | Resting:
        """Return codes and diagonal of square matrices."""
        square = working.ndim >= 3 and working.shape[-1] == working.shape[-2]
        if not square or math.prod(working.shape[1:]) < self.least:
            return working
        diagonal = working.diagonal(dim1=-2, dim2=-1).clone()
        return Diagonalized(diagonal, Blocks.of(without_diagonal(working), self.code, self.block))


def without_diagonal(matrices: Tensor) -> Tensor:
    """Return a copy of square matrices with zeros on the diagonal."""
    copy = matrices.clone(memory_format=torch.contiguous_format)
    copy.diagonal(dim1=-2, dim2=-1).zero_()
    return copy
