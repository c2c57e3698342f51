"""Symmetric matrices without the half that says nothing new."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import Resting, Role, Storage
from precond.math.tensors.packing import mirror, pack_lower, unpack_lower


@final
@dataclasses.dataclass
class Triangle(Resting):
    """The lower triangle of symmetric matrices.

    Attributes:
        triangle: The packed triangle, ``[batch, ..., entries]``.
        side: Side of the matrices.
        dtype: Of the working form.
        mirrored: Whether to fill the other triangle when they wake.
    """

    triangle: Tensor
    side: int
    dtype: torch.dtype
    mirrored: bool

    def decode(self) -> Tensor:
        """Unpack."""
        matrices = unpack_lower(self.triangle, self.side, self.dtype)
        return mirror(matrices) if self.mirrored else matrices

    def encode(self, working: Tensor) -> None:
        """Pack the lower triangle."""
        pack_lower(working, out=self.triangle)


@final
@dataclasses.dataclass(frozen=True)
class Packed(Storage):
    """Keep one triangle of symmetric matrices; everything else rests as it works.

    Attributes:
        dtype: Of the triangle, to which it is rounded; exact unless given.
    """

    dtype: torch.dtype | None = None

    def rest(self, working: Tensor, role: Role) -> Tensor | Resting:
        """Return the packed triangle of symmetric matrices."""
        if role not in (Role.SYMMETRIC, Role.ROOT):
            return working
        triangle = pack_lower(working).to(self.dtype or working.dtype)
        return Triangle(triangle, working.shape[-1], working.dtype, role is Role.ROOT)
