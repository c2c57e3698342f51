"""Rows that are matrices of low rank."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import BadInputError
from precond.math.tensors.compress import low_rank, matrix_shape, starting_factor
from precond.preconditioners.windows.base import Window


@dataclasses.dataclass
class LowRankRows:
    """State of `LowRankWindow`; a row is ``left right^T``.

    Attributes:
        left: Left factors, ``[batch, rows, rank, m]`` for gradients that are ``m x n`` matrices.
        right: Right factors, ``[batch, rows, rank, n]``.
    """

    left: Tensor
    right: Tensor


@final
@dataclasses.dataclass(frozen=True)
class LowRankWindow(Window[LowRankRows]):
    """Rows as products of two thin matrices; what they leave out is lost, unless an estimator feeds it back.

    Gradients of rank up to ``rank``, as an estimator `ErrorFeedback(LowRank(rank))` returns them, are kept exactly.
    Tensors are taken as matrices of their first axis by all others; vectors are kept in full.

    Source: EFCP (arXiv 2306.06098), Low-rank M-FAC.

    Attributes:
        rank: Rank of a row, for matrices with sides at least as long.
    """

    rank: int = 1

    def __post_init__(self) -> None:
        """Check the rank."""
        if self.rank < 1:
            raise BadInputError(f"the rank of a window's rows must be at least 1, not {self.rank}")

    def init(self, like: Tensor, rows: int) -> LowRankRows:
        """Allocate rows of zeros."""
        m, n = matrix_shape(tuple(like.shape[1:]))
        rank = min(self.rank, m, n)
        return LowRankRows(like.new_zeros(like.shape[0], rows, rank, m), like.new_zeros(like.shape[0], rows, rank, n))

    def write(self, state: LowRankRows, v: Tensor) -> None:
        """Keep the leading singular directions of ``v``, as far as one step of subspace iteration finds them."""
        matrices = self._matrices(v)
        batch, _, n = matrices.shape
        left, right = low_rank(matrices, starting_factor(batch, n, state.right.shape[2], v))
        state.left.copy_(left.mT.unsqueeze(1))
        state.right.copy_(right.mT.unsqueeze(1))

    def products(self, state: LowRankRows, v: Tensor) -> Tensor:
        """Return ``<left_i right_i^T, v>`` for every row."""
        through = torch.bmm(state.right.flatten(1, 2), self._matrices(v).mT.to(state.right.dtype))
        return (through.unflatten(1, state.left.shape[1:3]) * state.left).sum((2, 3))

    def combine(self, state: LowRankRows, weights: Tensor, like: Tensor) -> Tensor:
        """Return the sum of the rows by their weights, as one product."""
        scaled = state.left * weights.to(state.left.dtype)[:, :, None, None]
        return torch.bmm(scaled.flatten(1, 2).mT, state.right.flatten(1, 2)).to(like.dtype).reshape(like.shape)

    def _matrices(self, v: Tensor) -> Tensor:
        return v.reshape(v.shape[0], *matrix_shape(tuple(v.shape[1:])))
