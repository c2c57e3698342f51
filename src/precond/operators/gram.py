"""The Gram operator of the normal equations."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Operator, OperatorTraits


class GramOperator(Operator):
    """``A^H A``: what a preconditioner for a least-squares problem approximates the inverse of.

    Args:
        factor: The operator ``A``, shape ``[m, n]``, with an adjoint.
    """

    def __init__(self, factor: Operator) -> None:
        self.factor = factor
        self.shape = (factor.shape[1], factor.shape[1])
        self.dtype, self.device = factor.dtype, factor.device
        self.traits = OperatorTraits(symmetric=True)
        self._entries: scipy.sparse.csr_array | None = None

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A^H A x`` for each row of ``x``."""
        return self.factor.rmatvec(self.factor.matvec(x))

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the entries of ``A^H A``; formed once, and only when asked for."""
        matrix = self.factor.entries()
        if self._entries is None and matrix is not None:
            self._entries = scipy.sparse.csr_array(matrix.conj().T @ matrix)
            self._entries.sort_indices()
        return self._entries

    def diagonal(self) -> Tensor | None:
        """Return the squared norms of the columns of ``A``, without forming ``A^H A``."""
        matrix = self.factor.entries()
        if matrix is None:
            return None
        squares = np.bincount(matrix.indices, np.abs(matrix.data) ** 2, minlength=self.shape[0])
        return torch.from_numpy(squares).to(self.dtype).to(self.device)
