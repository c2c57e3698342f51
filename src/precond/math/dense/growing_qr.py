"""A QR factorization that grows by columns."""

from __future__ import annotations

import torch
from torch import Tensor


class GrowingQR:
    """``[c_1, .., c_k] = Q R``, each column projected twice; those that depend on others add no direction.

    Norms of combinations of the columns are norms of ``R c``, without the cancellation of their Gram matrix.

    Args:
        size: Length of a column.
        dtype: Type of the columns.

    Attributes:
        columns: Rows of ``Q^T``, shape ``[rank, size]``.
        factor: ``R``, shape ``[rank, k]``.
    """

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        self.columns = torch.empty(0, size, dtype=dtype)
        self.factor = torch.empty(0, 0, dtype=dtype)

    def append(self, vectors: Tensor) -> None:
        """Append columns, given as rows ``[several, size]``."""
        for vector in vectors.to(self.columns.dtype):
            coefficients = vector.new_zeros(len(self.columns))
            size = float(torch.linalg.vector_norm(vector))
            for _ in range(2):
                along = self.columns.conj() @ vector
                vector = vector - along @ self.columns
                coefficients = coefficients + along
            left = float(torch.linalg.vector_norm(vector))
            fresh = left > 1e-15 * size
            if fresh:
                self.columns = torch.cat([self.columns, vector[None] / left])
            old = self.factor
            self.factor = old.new_zeros(len(self.columns), old.shape[1] + 1)
            self.factor[: len(old), :-1] = old
            self.factor[: len(coefficients), -1] = coefficients
            if fresh:
                self.factor[-1, -1] = left


__all__ = ["GrowingQR"]
