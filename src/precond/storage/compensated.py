"""Triangular factors in few bits, whose rounding errors are kept and given back."""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from precond.core import BadInputError, Resting, Role, Storage
from precond.math.tensors.codes import Code, linear_square
from precond.math.tensors.packing import pack_lower, unpack_lower
from precond.storage.blocks import Blocks


@final
@dataclasses.dataclass
class CompensatedTriangle(Resting):
    """Lower triangular matrices: exact diagonals, codes below them, and codes of an average of the rounding errors.

    The two triangles of codes take little more than the room of one square.

    Attributes:
        diagonal: Shape ``[batch, ..., n]``, exact.
        triangle: What is below the diagonal, packed.
        error: Average of what rounding took from it, packed.
        decay: Of that average.
    """

    diagonal: Tensor
    triangle: Blocks
    error: Blocks
    decay: float

    def decode(self) -> Tensor:
        """Return the triangles as they were rounded."""
        matrices = unpack_lower(self.triangle.decode(), self.diagonal.shape[-1]).tril_(-1)
        matrices.diagonal(dim1=-2, dim2=-1).copy_(self.diagonal)
        return matrices

    def encode(self, working: Tensor) -> None:
        """Add the error to the triangle, round, and average what that took."""
        self.diagonal.copy_(working.diagonal(dim1=-2, dim2=-1))
        error = self.error.decode()
        wanted = _strict(working).add_(error)
        self.triangle.encode(wanted)
        self.error.encode(error.lerp_(wanted.sub_(self.triangle.decode()), 1.0 - self.decay))


@final
@dataclasses.dataclass(frozen=True)
class Compensated(Storage):
    """Codes with error feedback for triangular factors; everything else rests as it works.

    With ``Q`` the rounding, ``E`` the error and ``C`` the factor below its diagonal: ``C' = Q(C + E)``, then
    ``E <- decay E + (1 - decay) (C + E - C')``, which is rounded, too.

    Source: Li, Ding, Toh, Zhou, "Memory-Efficient 4-bit Preconditioned Stochastic Optimization", arXiv 2412.10663.

    Attributes:
        code: Of the factors and of the errors.
        block: Entries that share a scale.
        least: Smaller matrices, by entries, rest as they work.
        decay: Of the average of the errors.
    """

    code: Code = linear_square(4)
    block: int = 64
    least: int = 4096
    decay: float = 0.95

    def __post_init__(self) -> None:
        """Check the decay and the length of a block."""
        if not (0.0 <= self.decay <= 1.0 and self.block >= 1):
            raise BadInputError(f"decay must be in [0, 1] and a block positive, not {self.decay} and {self.block}")

    def rest(self, working: Tensor, role: Role) -> Tensor | Resting:
        """Return diagonal, codes and a zero error of triangular factors."""
        if role is not Role.TRIANGULAR or math.prod(working.shape[1:]) < self.least:
            return working
        diagonal = working.diagonal(dim1=-2, dim2=-1).clone()
        strict = _strict(working)
        triangle = Blocks.of(strict, self.code, self.block)
        return CompensatedTriangle(
            diagonal, triangle, Blocks.of(torch.zeros_like(strict), self.code, self.block), self.decay
        )


def _strict(matrices: Tensor) -> Tensor:
    return pack_lower(matrices.tril(-1))
