"""Resting forms made of codes in blocks, each block with a scale of its own."""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from precond.core import Resting
from precond.math.factors.bjorck import bjorck
from precond.math.tensors.codes import Code, pack_nibbles, unpack_nibbles
from precond.math.tensors.packing import mirror, pack_lower, unpack_lower


@final
@dataclasses.dataclass
class Blocks(Resting):
    """The entries of a member in order, cut into blocks, each divided by its largest entry and rounded to a code.

    A block with an entry that is not finite rests as a block of such.

    Attributes:
        codes: Shape ``[batch, blocks, bytes]``.
        scales: Largest entry of each block in magnitude, ``[batch, blocks]``.
        code: What the codes mean.
        shape: Shape of a member.
    """

    codes: Tensor
    scales: Tensor
    code: Code
    shape: tuple[int, ...]

    @classmethod
    def of(cls, working: Tensor, code: Code, block: int) -> Blocks:
        """Return the resting form of a tensor ``[batch, ...]``, in blocks of ``block`` entries."""
        batch, entries = working.shape[0], math.prod(working.shape[1:])
        count = -(-entries // block)
        resting = cls(
            torch.zeros(batch, count, block * code.bits // 8, dtype=torch.uint8, device=working.device),
            torch.zeros(batch, count, dtype=working.dtype, device=working.device),
            code,
            tuple(working.shape[1:]),
        )
        resting.encode(working)
        return resting

    def decode(self) -> Tensor:
        """Look the codes up and multiply by the scales."""
        codes = unpack_nibbles(self.codes) if self.code.bits == 4 else self.codes
        values = self.code.decode(codes, self.scales.dtype).mul_(self.scales.unsqueeze(-1))
        flat = values.flatten(1)
        entries = math.prod(self.shape)
        return flat[:, :entries].contiguous().view(flat.shape[0], *self.shape)

    def encode(self, working: Tensor) -> None:
        """Find the scales, divide, and round."""
        flat = working.flatten(1)
        block = self.codes.shape[2] * 8 // self.code.bits
        room = self.scales.shape[1] * block
        if flat.shape[1] < room:
            flat = torch.nn.functional.pad(flat, (0, room - flat.shape[1]))
        blocks = flat.view(*self.scales.shape, block)
        scales = blocks.abs().amax(-1)
        codes = self.code.encode(blocks / torch.where(scales > 0, scales, 1.0).unsqueeze(-1))
        self.codes.copy_(pack_nibbles(codes) if self.code.bits == 4 else codes)
        self.scales.copy_(scales)


@final
@dataclasses.dataclass
class Columns(Resting):
    """Orthogonal matrices as blocks that run down their columns; optionally made orthogonal again when they wake.

    Attributes:
        columns: The transposed matrices.
        steps: Bjorck's steps after decoding.
    """

    columns: Blocks
    steps: int

    def decode(self) -> Tensor:
        """Return the matrices, orthogonal up to what the steps leave of the rounding."""
        return bjorck(self.columns.decode().mT, self.steps)

    def encode(self, working: Tensor) -> None:
        """Encode the columns."""
        self.columns.encode(working.mT)


@final
@dataclasses.dataclass
class Correlations(Resting):
    """Symmetric, positive semidefinite matrices as their diagonals and the codes of their correlations.

    Entry ``(i, j)`` is divided by the root of the product of the diagonal entries ``i`` and ``j`` before it is encoded,
    so that axes of very different size do as little harm to one another as they can. Half of the matrix is kept.

    Attributes:
        diagonal: Shape ``[batch, ..., n]``, exact.
        triangle: What is below the diagonal, packed.
        mirrored: Whether to fill the other triangle when they wake.
    """

    diagonal: Tensor
    triangle: Blocks
    mirrored: bool

    @classmethod
    def of(cls, working: Tensor, code: Code, block: int, *, mirrored: bool) -> Correlations:
        """Return the resting form of matrices ``[batch, ..., n, n]``."""
        diagonal = working.diagonal(dim1=-2, dim2=-1).clone()
        return cls(diagonal, Blocks.of(_correlations(working, diagonal), code, block), mirrored)

    def decode(self) -> Tensor:
        """Unpack, scale back, and put the diagonal in its place."""
        root = self.diagonal.clamp(min=0).sqrt()
        lower = unpack_lower(self.triangle.decode(), root.shape[-1])
        lower.mul_(root.unsqueeze(-1)).mul_(root.unsqueeze(-2))
        matrices = mirror(lower) if self.mirrored else lower
        matrices.diagonal(dim1=-2, dim2=-1).copy_(self.diagonal)
        return matrices

    def encode(self, working: Tensor) -> None:
        """Keep the diagonal, scale and pack what is below it."""
        self.diagonal.copy_(working.diagonal(dim1=-2, dim2=-1))
        self.triangle.encode(_correlations(working, self.diagonal))


def _correlations(matrices: Tensor, diagonal: Tensor) -> Tensor:
    """Return the packed lower triangles of the correlations, with zeros for the diagonal."""
    inverse = torch.where(diagonal > 0, diagonal, torch.inf).rsqrt()
    scaled = matrices * inverse.unsqueeze(-1)
    return pack_lower(scaled.mul_(inverse.unsqueeze(-2)).tril_(-1))
