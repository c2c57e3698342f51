"""Dense normal sketches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from precond.core import Embedding, Sketch

_block = 1024  # columns of S that exist at a time


class GaussianEmbedding(Embedding):
    """One draw; its columns are made anew, a block at a time, whenever they are needed.

    Args:
        rows: Length of the vectors it takes.
        size: Length of the vectors it returns.
        seed: Determines all entries.
        dtype: Their type.
        device: Where they live.
    """

    def __init__(self, rows: int, size: int, seed: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self.shape = (size, rows)
        self.seed, self.dtype, self.device = seed, dtype, torch.device(device)

    def apply(self, matrix: Tensor) -> Tensor:
        """Return ``S`` times each column."""
        out = matrix.new_zeros(*matrix.shape[:-2], self.shape[0], matrix.shape[-1])
        for first, block in self._blocks():
            out += block.to(matrix.dtype) @ matrix[..., first : first + _block, :]
        return out

    def adjoint(self, matrix: Tensor) -> Tensor:
        """Return ``S^T`` times each column."""
        return torch.cat([block.mT.to(matrix.dtype) @ matrix for _, block in self._blocks()], dim=-2)

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        size, rows = self.shape
        generator = torch.Generator().manual_seed(self.seed)
        for first in range(0, rows, _block):
            shape = (size, min(_block, rows - first))
            drawn = torch.randn(shape, generator=generator, dtype=torch.float64) / size**0.5
            yield first, drawn.to(self.device, self.dtype)


@final
@dataclasses.dataclass(frozen=True)
class Gaussian(Sketch):
    """Independent normal entries of variance ``1 / size``.

    The reference: with ``size = n / eps^2`` all lengths in a subspace of dimension ``n`` are kept within ``1 +- eps``
    or so, whatever the subspace, at the price of a dense product. (W. B. Johnson, J. Lindenstrauss, *Extensions of
    Lipschitz mappings into a Hilbert space*, 1984.)
    """

    def draw(
        self,
        rows: int,
        size: int,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> GaussianEmbedding:
        """Draw a map."""
        return GaussianEmbedding(rows, size, seed, torch.empty(0, dtype=dtype).real.dtype, device)
