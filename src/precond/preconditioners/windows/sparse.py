"""Rows of a few entries each."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import BadInputError
from precond.math.tensors.compress import Blocks, spread, top_k
from precond.preconditioners.windows.base import Window

_GATHERED = 2**22
"""Entries of rows that are gathered at once; more take memory and no less time."""


@dataclasses.dataclass
class SparseRows:
    """State of `SparseWindow`.

    Attributes:
        places: Where the entries are in their blocks, small integers, ``[batch, rows, blocks, kept]``.
        values: What they are, ``[batch, rows, blocks, kept]``.
    """

    places: Tensor
    values: Tensor


@final
@dataclasses.dataclass(frozen=True)
class SparseWindow(Window[SparseRows]):
    """Rows of the largest entries of each gradient; what they leave out is lost, unless an estimator feeds it back.

    Source: EFCP (arXiv 2306.06098), Sparse M-FAC. An entry takes four bytes in a block of at most 32768 (two for the
    place, two for the value), and six otherwise.

    Attributes:
        density: Share of the entries that are kept, at least one.
        block: Entries of the blocks that each keep that share; unless given, the largest of the whole vector are kept.
        half: Whether values rest in bfloat16 rather than the dtype of the gradients.
    """

    density: float = 0.01
    block: int | None = None
    half: bool = True

    def __post_init__(self) -> None:
        """Check the share and the length of blocks."""
        if not 0.0 < self.density < 1.0 or (self.block is not None and self.block < 1):
            raise BadInputError(
                f"a sparse window keeps a share in (0, 1) of positive blocks, not {self.density} of {self.block}; "
                "a dense one keeps everything"
            )

    def init(self, like: Tensor, rows: int) -> SparseRows:
        """Allocate rows of zeros."""
        blocks = self._blocks(like)
        shape = (like.shape[0], rows, blocks.count, blocks.kept)
        places = torch.zeros(shape, dtype=blocks.dtype, device=like.device)
        values = torch.zeros(shape, dtype=torch.bfloat16 if self.half else like.dtype, device=like.device)
        return SparseRows(places, values)

    def write(self, state: SparseRows, v: Tensor) -> None:
        """Keep the largest entries of ``v``."""
        places, values = top_k(v.flatten(1), self._blocks(v))
        state.places.copy_(places.unsqueeze(1))
        state.values.copy_(values.unsqueeze(1))

    def products(self, state: SparseRows, v: Tensor) -> Tensor:
        """Return ``G v`` by gathering entries of ``v``."""
        blocks, flat = self._blocks(v), v.flatten(1).unsqueeze(1)
        parts = []
        for places, values in self._pieces(state):
            positions = blocks.positions(places)
            gathered = flat.expand(-1, positions.shape[1], -1).gather(2, positions)
            parts.append(gathered.mul_(values.to(v.dtype).flatten(2)).sum(-1))
        return torch.cat(parts, 1)

    def combine(self, state: SparseRows, weights: Tensor, like: Tensor) -> Tensor:
        """Return ``G^T weights`` by scattering entries."""
        blocks, dense = self._blocks(like), torch.zeros_like(like).flatten(1)
        start = 0
        for places, values in self._pieces(state):
            end = start + places.shape[1]
            scaled = values.to(like.dtype).flatten(2) * weights[:, start:end, None].to(like.dtype)
            dense.scatter_add_(1, blocks.positions(places).flatten(1), scaled.flatten(1))
            start = end
        return dense.reshape(like.shape)

    def read(self, state: SparseRows, like: Tensor) -> Tensor:
        """Return the only row."""
        return spread(state.places[:, 0], state.values[:, 0], self._blocks(like), like.dtype).reshape(like.shape)

    def _blocks(self, like: Tensor) -> Blocks:
        return Blocks.of(like[0].numel(), self.density, self.block)

    def _pieces(self, state: SparseRows) -> list[tuple[Tensor, Tensor]]:
        """Return places and values of some rows at a time."""
        rows = max(1, _GATHERED // max(1, state.values[0, :1].numel() * len(state.values)))
        return list(zip(state.places.split(rows, 1), state.values.split(rows, 1), strict=True))
