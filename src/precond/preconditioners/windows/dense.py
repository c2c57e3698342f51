"""Rows in full."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.preconditioners.windows.base import Window


@dataclasses.dataclass
class DenseRows:
    """State of `DenseWindow`.

    Attributes:
        gradients: The rows, ``[batch, rows, *shape]``.
    """

    gradients: Tensor


@final
@dataclasses.dataclass(frozen=True)
class DenseWindow(Window[DenseRows]):
    """Rows in full: as many bytes a row as the gradient."""

    def init(self, like: Tensor, rows: int) -> DenseRows:
        """Allocate rows of zeros."""
        return DenseRows(like.new_zeros(like.shape[0], rows, *like.shape[1:]))

    def write(self, state: DenseRows, v: Tensor) -> None:
        """Copy ``v``."""
        state.gradients.copy_(v.unsqueeze(1))

    def products(self, state: DenseRows, v: Tensor) -> Tensor:
        """Return ``G v``."""
        return torch.bmm(state.gradients.flatten(2), v.flatten(1).unsqueeze(-1).to(state.gradients.dtype)).squeeze(-1)

    def combine(self, state: DenseRows, weights: Tensor, like: Tensor) -> Tensor:
        """Return ``G^T weights``."""
        rows = state.gradients.flatten(2)
        return torch.bmm(weights.to(rows.dtype).unsqueeze(1), rows).to(like.dtype).reshape(like.shape)
