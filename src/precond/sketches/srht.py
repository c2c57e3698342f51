"""The subsampled randomized Hadamard transform."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import Embedding, Sketch
from precond.math.hadamard import hadamard_transform


class HadamardEmbedding(Embedding):
    """One draw: signs, transform, sampled rows.

    Args:
        rows: Length of the vectors it takes.
        signs: Shape ``[rows]``.
        sample: Rows of the transform that are kept, shape ``[size]``.
    """

    def __init__(self, rows: int, signs: Tensor, sample: Tensor) -> None:
        self.shape = (len(sample), rows)
        self.signs, self.sample = signs, sample
        self.padded = _power_of_two(rows)

    def apply(self, matrix: Tensor) -> Tensor:
        """Return ``S`` times each column."""
        padded = matrix.new_zeros(*matrix.shape[:-2], self.padded, matrix.shape[-1])
        torch.mul(matrix, self.signs.to(matrix.dtype).unsqueeze(-1), out=padded[..., : self.shape[1], :])
        return hadamard_transform(padded).index_select(-2, self.sample) / self.shape[0] ** 0.5

    def adjoint(self, matrix: Tensor) -> Tensor:
        """Return ``S^T`` times each column."""
        spread = matrix.new_zeros(*matrix.shape[:-2], self.padded, matrix.shape[-1])
        spread.index_add_(-2, self.sample, matrix / self.shape[0] ** 0.5)
        return hadamard_transform(spread)[..., : self.shape[1], :] * self.signs.to(matrix.dtype).unsqueeze(-1)


@final
@dataclasses.dataclass(frozen=True)
class SRHT(Sketch):
    """``S = P H D / sqrt(size)``: random signs ``D``, a Hadamard transform ``H``, uniformly sampled rows ``P``.

    The transform spreads every vector over all rows, so that any few of them tell its length. Vectors are padded with
    zeros to a power of two; rows are sampled with replacement. (N. Ailon, B. Chazelle, *Approximate nearest neighbors
    and the fast Johnson-Lindenstrauss transform*, 2006; J. A. Tropp, *Improved analysis of the subsampled randomized
    Hadamard transform*, 2011, arXiv 1011.1595.)
    """

    def draw(
        self,
        rows: int,
        size: int,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> HadamardEmbedding:
        """Draw a map."""
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (rows,), generator=generator).mul_(2).sub_(1)
        sample = torch.randint(0, _power_of_two(rows), (size,), generator=generator)
        real = torch.empty(0, dtype=dtype).real.dtype
        return HadamardEmbedding(rows, signs.to(device, real), sample.to(device))


def _power_of_two(rows: int) -> int:
    return 1 << max(rows - 1, 0).bit_length()
