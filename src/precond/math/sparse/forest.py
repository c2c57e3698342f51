"""Blocks of a sparse symmetric matrix whose graph is a forest."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor


class Graph:
    """The graph of a sparse symmetric matrix, and what can be solved with parts of it.

    Args:
        matrix: Shape ``[n, n]``.
    """

    def __init__(self, matrix: scipy.sparse.csr_array) -> None:
        self._indptr = matrix.indptr.astype(np.int64)
        self._indices = matrix.indices.astype(np.int64)
        self._data = matrix.data.astype(np.float64)
        self.nodes = int(matrix.shape[0])

    def forest(self, order: Tensor, limit: int | None = None, *, independent: bool = False) -> Tensor:
        """Return nodes that form a forest, ascending: every one, in an order, that closes no cycle.

        Args:
            order: In which order nodes are tried, each at most once.
            limit: Largest number of nodes.
            independent: Choose nodes without edges among them instead.

        Returns:
            The nodes, ``[k]``.
        """
        from precond.math.sparse import forest_kernels as kernels

        chosen = np.zeros(self.nodes, np.bool_)
        tried = np.ascontiguousarray(order.numpy().astype(np.int64))
        kernels.choose(self._indptr, self._indices, tried, self.nodes if limit is None else limit, independent, chosen)
        return torch.from_numpy(chosen.nonzero()[0])

    def solve(self, nodes: Tensor, rhs: Tensor) -> Tensor | None:
        """Return the solution of the rows and columns of a forest, in one pass up and one down.

        Args:
            nodes: The forest, ``[k]``.
            rhs: The right-hand side, ``[k]``.

        Returns:
            The solution, ``[k]``; ``None`` where that part of the matrix is not positive definite.
        """
        from precond.math.sparse import forest_kernels as kernels

        places, chosen, full = nodes.numpy(), np.zeros(self.nodes, np.bool_), np.zeros(self.nodes)
        chosen[places] = True
        full[places] = rhs.double().numpy()
        if not kernels.solve(self._indptr, self._indices, self._data, chosen, full):
            return None
        return torch.from_numpy(full[places]).to(rhs)
