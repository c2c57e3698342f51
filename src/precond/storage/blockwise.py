"""State that rests in codes of 8 or 4 bits."""

from __future__ import annotations

import dataclasses
import math
from typing import final

from torch import Tensor

from precond.core import BadInputError, Resting, Role, Storage
from precond.math.tensors.codes import Code, Power, normal_quantiles
from precond.storage.blocks import Blocks, Columns, Correlations


@final
@dataclasses.dataclass(frozen=True)
class Blockwise(Storage):
    """Codes of 8 or 4 bits, with one scale for each block of entries; what is held decides about the code.

    Averages of gradients and second moments are rounded after a root has been taken of them, since their entries are
    compared to their own size, not to that of the largest; second moments never become zero. Symmetric matrices keep
    their diagonal, and codes of their correlations for half of the rest. Bases are encoded column by column.

    An average that moves by less than half a code a step stands still, or moves with the scale of its block, as in
    other optimizers of 8 bits.

    Sources: blocks: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861; the orthogonal
    matrices: Wang et al., arXiv 2405.18144.

    Attributes:
        bits: 8 or 4.
        block: Entries that share a scale, even.
        least: Tensors with fewer entries than this (in one member) rest as they work.
        signed: Code of numbers of either sign; squares unless given.
        non_negative: Code of second moments; fourth powers unless given.
        orthogonal: Code of bases; evenly spaced, or quantiles of the normal distribution for 4 bits, unless given.
        rectify: Bjorck's steps by which bases are made orthogonal again when they are decoded, each two products of
            matrices.
    """

    bits: int = 8
    block: int = 256
    least: int = 4096
    signed: Code | None = None
    non_negative: Code | None = None
    orthogonal: Code | None = None
    rectify: int = 0

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.bits not in (4, 8):
            raise BadInputError(f"codes have 4 or 8 bits, not {self.bits}; for 16 use StochasticBFloat16 or Rounded")
        if self.block < 2 or self.block % 2:
            raise BadInputError(f"the entries of a block must be an even number, not {self.block}")

    def rest(self, working: Tensor, role: Role) -> Tensor | Resting:
        """Return the resting form by role; the tensor itself if it is small."""
        if math.prod(working.shape[1:]) < self.least:
            return working
        if role in (Role.SYMMETRIC, Role.ROOT):
            return Correlations.of(working, self._signed, self.block, mirrored=role is Role.ROOT)
        if role is Role.ORTHOGONAL:
            code = self.orthogonal or (Power(8, 1) if self.bits == 8 else normal_quantiles())
            return Columns(Blocks.of(working.mT, code, self.block), self.rectify)
        if role is Role.NON_NEGATIVE:
            return Blocks.of(working, self.non_negative or Power(self.bits, 4, signed=False), self.block)
        return Blocks.of(working, self._signed, self.block)

    @property
    def _signed(self) -> Code:
        return self.signed or Power(self.bits, 2)
