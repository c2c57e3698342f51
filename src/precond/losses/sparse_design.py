"""A sparse matrix as a linear model sees it, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.losses.design import Design
from precond.losses.features import Features


class SparseDesign(Design):
    """A sparse matrix on the CPU.

    Args:
        matrix: Shape ``[m, n]``, float32 or float64.
    """

    def __init__(self, matrix: Any) -> None:
        self._matrix = scipy.sparse.csr_array(matrix)
        self._matrix.sum_duplicates()
        self._transpose = scipy.sparse.csr_array(self._matrix.T)
        self._transpose.sort_indices()
        self._double: Any = None
        self._features: Features | None = None
        self._transpose.indptr = self._transpose.indptr.astype(np.int64)
        self._transpose.indices = self._transpose.indices.astype(np.int64)
        self.shape = (int(matrix.shape[0]), int(matrix.shape[1]))
        self.dtype = torch.from_numpy(self._matrix.data[:0]).dtype
        self.device = torch.device("cpu")

    @property
    def features(self) -> Features:
        """The matrix as a tensor of torch."""
        if self._features is None:
            self._features = Features.sparse(self._matrix, self._transpose)
        return self._features

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x``."""
        return torch.from_numpy(np.ascontiguousarray((self._matrix @ x.detach().numpy().T).T))

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A' y``."""
        return torch.from_numpy(np.ascontiguousarray((self._transpose @ y.detach().numpy().T).T))

    def partial(self, block: Tensor, y: Tensor) -> Tensor:
        """Return ``A_b' y``."""
        from precond.math.sparse import column_kernels as kernels

        out = torch.empty(len(block), dtype=torch.float64)
        kernels.partial(*self._parts(), block.numpy(), y.double().contiguous().numpy(), out.numpy())
        return out.to(self.dtype)

    def combine(self, block: Tensor, d: Tensor) -> Tensor:
        """Return ``A_b d``."""
        from precond.math.sparse import column_kernels as kernels

        out = torch.zeros(self.shape[0], dtype=torch.float64)
        kernels.combine(*self._parts(), block.numpy(), d.double().contiguous().numpy(), out.numpy())
        return out.to(self.dtype)

    def gram(self, block: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return ``A_b' diag(weights) A_b``."""
        part = self._transpose[block.numpy()]
        scaled = part if weights is None else part.multiply(weights.numpy()[None]).tocsr()
        return torch.from_numpy(np.ascontiguousarray((scaled @ part.T).toarray()))

    def squares(self) -> Tensor:
        """Return the squared norms of the columns."""
        return torch.from_numpy(np.asarray(self._matrix.multiply(self._matrix).sum(axis=0)).reshape(-1))

    def overlaps(self) -> Tensor:
        """Return ``|A|' |A| 1``."""
        sizes = abs(self._matrix)
        return torch.from_numpy(np.asarray(sizes.T @ np.asarray(sizes.sum(axis=1)).reshape(-1)))

    def diagonal(self) -> Tensor:
        """Return the diagonal."""
        return torch.from_numpy(np.array(self._matrix.diagonal()))

    def block(self, index: Tensor) -> Tensor:
        """Return the entries of some rows and columns."""
        part = self._matrix[index.numpy()][:, index.numpy()].toarray()
        return torch.from_numpy(np.ascontiguousarray(part))

    def row_sums(self) -> Tensor:
        """Return the sums of sizes."""
        return torch.from_numpy(np.asarray(abs(self._matrix).sum(axis=1)).reshape(-1))

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the matrix."""
        return self._matrix

    def round(self, order: Any, common: tuple[Any, ...], columns: list[Any]) -> float:
        """Run a round on the columns."""
        from precond.math import descent_kernels as kernels

        return float(kernels.sparse_round(order, *self._parts(), *common, *columns))

    def _parts(self) -> tuple[Any, Any, Any]:
        if self._double is None:
            self._double = self._transpose.data.astype(np.float64, copy=False)
        return self._transpose.indptr, self._transpose.indices, self._double
