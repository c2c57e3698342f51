"""What orthogonal bases share that turn now and then: which modes have one, and how vectors enter and leave it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from precond.core import BadInputError, Need
from precond.math.tensors.modes import mode_products
from precond.math.tensors.shapes import block_lengths, factor_shapes, modes_with_factor
from precond.math.tensors.tiles import overhang, trim

Shapes = list[tuple[int, ...] | None]
"""Shapes of the factors of the modes, the batch not counted; ``None`` for a mode without a basis."""


class HasBases(Protocol):
    """What a state holds.

    Attributes:
        bases: Orthogonal matrices, ``[batch, n, n]`` or, in blocks, ``[batch, blocks, side, side]``; or ``None``.
        dims: Axes of a tensor, the batch not counted.
    """

    bases: list[Tensor | None]
    dims: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TurningBasis:
    """A basis for each mode of a tensor; subclasses say how bases are found and turned.

    Attributes:
        beta: Decay of the averages of the factors.
        max_dim: Modes longer than this keep their own basis.
        vectors: Whether tensors with one axis get a basis.
        one_sided: Only the shortest mode turns, the last of them where there are several.
        tolerance: A basis is not turned while the off-diagonal part of its factor is at most this fraction of the
            whole, in Frobenius norms; 0 turns always.
        block: Longest side of a block: the factor of a longer mode is taken to be block diagonal, so that products with
            it, its statistics and its basis cost ``block / n`` of the whole ones; other modes do not notice. Blocks
            are equally long; where that leaves a remainder, coordinates have a few entries more, which are zero.
        half: Keep the bases of single-precision tensors in bfloat16, and multiply by them in bfloat16 where the device
            does so natively.
    """

    needs: ClassVar[Need] = Need.GRADIENT
    beta: float = 0.95
    max_dim: int = 10000
    vectors: bool = False
    one_sided: bool = False
    tolerance: float = 0.0
    block: int | None = None
    half: bool = False

    def __post_init__(self) -> None:
        """Check the length of a block."""
        if self.block is not None and self.block < 1:
            raise BadInputError(f"the side of a block must be at least 1, not {self.block}")

    def begin(self, like: Tensor) -> tuple[Shapes, list[Tensor | None], list[Tensor | None]]:
        """Return the shapes of the factors, zero factors, and the identity as bases."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        resting = torch.bfloat16 if self.half and dtype == torch.float32 else dtype
        batch, dims = like.shape[0], tuple(like.shape[1:])
        shapes = factor_shapes(dims, self.max_dim, block=self.block, vectors=self.vectors, one_sided=self.one_sided)

        def zeros(shape: tuple[int, ...]) -> Tensor:
            return torch.zeros(batch, *shape, dtype=dtype, device=like.device)

        def identity(shape: tuple[int, ...]) -> Tensor:
            return torch.eye(shape[-1], dtype=resting, device=like.device).expand(batch, *shape).clone()

        factors = [None if shape is None else zeros(shape) for shape in shapes]
        return shapes, factors, [None if shape is None else identity(shape) for shape in shapes]

    def turns(self, dims: Sequence[int]) -> bool:
        """Whether a tensor with axes of these lengths has a basis at all: vectors may have none."""
        return any(modes_with_factor(dims, self.max_dim, vectors=self.vectors, one_sided=self.one_sided))

    def coordinates(self, like: Tensor) -> Tensor:
        """Return ``like`` with the zeros behind modes that blocks do not fit."""
        return like if self.block is None else overhang(like, block_lengths(like.shape[1:], self.block))

    def enter(self, state: HasBases, v: Tensor) -> Tensor:
        """Return the coordinates of ``v`` in the basis."""
        return mode_products(self.coordinates(v), state.bases, transpose=True)

    def leave(self, state: HasBases, v: Tensor) -> Tensor:
        """Return the vector whose coordinates in the basis are ``v``."""
        left = mode_products(v, state.bases)
        return left if self.block is None else trim(left, state.dims)


def whole_order(order: Tensor, basis: Tensor) -> Tensor:
    """Return the permutations within blocks, ``[batch * blocks, side]``, as those of the whole mode, ``[batch, n]``."""
    if basis.ndim == 3:
        return order
    batch, blocks, side = basis.shape[:3]
    starts = side * torch.arange(blocks, device=order.device)
    return (order.view(batch, blocks, side) + starts[:, None]).flatten(1)
