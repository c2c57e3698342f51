"""Sketches with few entries in each column: sparse sign matrices and their extreme, CountSketch."""

from __future__ import annotations

import dataclasses
from typing import final

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import BadInputError, Embedding, Sketch
from precond.math.dense.tall import scatter_rows


class SparseEmbedding(Embedding):
    """One draw of a matrix with the same number of entries in each column.

    Args:
        size: Length of the vectors it returns.
        places: Rows of the entries of each column, shape ``[rows, nonzeros]``, ``int32``.
        values: The entries, shape ``[rows, nonzeros]``.
    """

    def __init__(self, size: int, places: Tensor, values: Tensor) -> None:
        self.shape = (size, len(places))
        self.places, self.values = places, values

    def apply(self, matrix: Tensor) -> Tensor:
        """Return ``S`` times each column, reading the matrix once."""
        values = self.values.to(torch.empty(0, dtype=matrix.dtype).real.dtype)
        return scatter_rows(matrix, self.places, values, self.shape[0])

    def adjoint(self, matrix: Tensor) -> Tensor:
        """Return ``S^T`` times each column."""
        out = matrix.new_zeros(*matrix.shape[:-2], self.shape[1], matrix.shape[-1])
        for where, value in zip(self.places.mT, self.values.mT, strict=True):
            out += matrix.index_select(-2, where.long()) * value.to(matrix.dtype).unsqueeze(-1)
        return out

    def entries(self) -> scipy.sparse.csr_array:
        """Return the matrix in CSR form."""
        rows, nonzeros = self.places.shape
        pointers = np.arange(0, rows * nonzeros + 1, nonzeros)
        values, places = self.values.cpu().numpy().reshape(-1), self.places.cpu().numpy().reshape(-1)
        return scipy.sparse.csc_array((values, places, pointers), shape=self.shape).tocsr()


def _draw(rows: int, size: int, nonzeros: int, seed: int, dtype: torch.dtype, device: torch.device | str) -> Embedding:
    """Draw one entry ``+-1 / sqrt(nonzeros)`` in each of ``nonzeros`` blocks of rows, for each column."""
    if nonzeros < 1:
        raise BadInputError(f"a sparse sketch needs at least one entry in a column, not {nonzeros}")
    nonzeros = min(nonzeros, size)
    rng = np.random.default_rng(seed)
    bounds = np.arange(nonzeros + 1) * size // nonzeros
    places = rng.integers(bounds[:-1], bounds[1:], size=(rows, nonzeros), dtype=np.int32)
    signs = rng.integers(0, 2, size=(rows, nonzeros), dtype=np.int8)
    real = torch.empty(0, dtype=dtype).real.dtype
    values = torch.from_numpy(signs).to(real).mul_(2).sub_(1).div_(nonzeros**0.5)
    return SparseEmbedding(size, torch.from_numpy(places).to(device), values.to(device))


@final
@dataclasses.dataclass(frozen=True)
class SparseSign(Sketch):
    """Entries ``+-1 / sqrt(k)`` in ``k`` random rows of each column, zero elsewhere: one pass over the data.

    The rows are cut into ``k`` blocks with one entry in each (the block construction of J. Nelson, H. L. Nguyen,
    *OSNAP: faster numerical linear algebra algorithms via sparser subspace embeddings*, 2013, arXiv 1211.1002), so that
    they are distinct without being drawn without replacement.

    Attributes:
        nonzeros: ``k``; 8 behaves as a dense sketch on every matrix known, 4 costs half.
    """

    nonzeros: int = 8

    def draw(
        self,
        rows: int,
        size: int,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Embedding:
        """Draw a map."""
        return _draw(rows, size, self.nonzeros, seed, dtype, device)


@final
@dataclasses.dataclass(frozen=True)
class CountSketch(Sketch):
    """One entry ``+-1`` in a random row of each column.

    The cheapest sketch; a subspace that lies along few coordinates needs ``size`` in the order of the square of its
    dimension, because no two of these may meet. (K. L. Clarkson, D. P. Woodruff, *Low rank approximation and regression
    in input sparsity time*, 2013, arXiv 1207.6365.)
    """

    def draw(
        self,
        rows: int,
        size: int,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Embedding:
        """Draw a map."""
        return _draw(rows, size, 1, seed, dtype, device)
