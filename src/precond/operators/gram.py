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
        inner: The operator ``A``, shape ``[m, n]``, with an adjoint.
    """

    def __init__(self, inner: Operator) -> None:
        self.inner = inner
        self.shape = (inner.shape[1], inner.shape[1])
        self.dtype, self.device = inner.dtype, inner.device
        self.traits = OperatorTraits(symmetric=True)
        self._entries: scipy.sparse.csr_array | None = None

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A^H A x`` for each row of ``x``."""
        return self.inner.normal(x)[0]

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the entries of ``A^H A``; formed once, and only when asked for."""
        matrix = self.inner.entries()
        if self._entries is None and matrix is not None:
            self._entries = scipy.sparse.csr_array(matrix.conj().T @ matrix)
            self._entries.sort_indices()
        return self._entries

    def diagonal(self) -> Tensor | None:
        """Return the squared norms of the columns of ``A``, without forming ``A^H A``."""
        dense = self.inner.dense()
        if dense is not None:
            return torch.linalg.vector_norm(dense, dim=0).square().to(self.dtype)
        matrix = self.inner.entries()
        if matrix is None:
            return None
        squares = np.bincount(matrix.indices, np.abs(matrix.data) ** 2, minlength=self.shape[0])
        return torch.from_numpy(squares).to(self.dtype).to(self.device)

    def frobenius_norm(self) -> float | None:
        """Return ``None``: the norm would take the entries of the product."""
        return None

    def double(self) -> Operator:
        """Return ``A^H A`` with ``A`` in double precision."""
        double = self.inner.double()
        return self if double is self.inner else GramOperator(double)

    def factor(self) -> Tensor | None:
        """Return ``A`` where it is kept as a dense tensor."""
        return self.inner.dense()

    def root(self) -> Operator:
        """Return ``A``."""
        return self.inner
