"""Symmetric matrices without the half that says nothing new."""

from __future__ import annotations

import dataclasses
from typing import final

from torch import Tensor

from precond.core import Full, Resting, Role, Storage
from precond.math.packing import mirror, pack_lower, unpack_lower


@final
@dataclasses.dataclass
class Triangle(Resting):
    """The lower triangle of symmetric matrices.

    Attributes:
        triangle: The packed triangle, as another storage keeps it.
        side: Side of the matrices.
        mirrored: Whether to fill the other triangle when they wake.
    """

    triangle: Tensor | Resting
    side: int
    mirrored: bool

    def decode(self) -> Tensor:
        """Unpack."""
        packed = self.triangle.decode() if isinstance(self.triangle, Resting) else self.triangle
        matrices = unpack_lower(packed, self.side)
        return mirror(matrices) if self.mirrored else matrices

    def encode(self, working: Tensor) -> None:
        """Pack the lower triangle."""
        if isinstance(self.triangle, Resting):
            self.triangle.encode(pack_lower(working))
        else:
            pack_lower(working, out=self.triangle)


@final
@dataclasses.dataclass(frozen=True)
class Packed(Storage):
    """Keep one triangle of symmetric matrices, exactly unless ``inner`` rounds; everything else is left to ``inner``.

    Attributes:
        inner: How the triangle rests, and whatever is not symmetric.
    """

    inner: Storage = Full()

    def rest(self, working: Tensor, role: Role) -> Tensor | Resting:
        """Return the packed triangle of symmetric matrices."""
        if role not in (Role.SYMMETRIC, Role.ROOT):
            return self.inner.rest(working, role)
        return Triangle(self.inner.rest(pack_lower(working), Role.SIGNED), working.shape[-1], role is Role.ROOT)
