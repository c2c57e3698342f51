"""Shapes of the graph of a sparse matrix."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse

from precond.math.sparse.multigrid import kernels


@dataclasses.dataclass(frozen=True)
class Extent:
    """How far the largest connected component of a graph extends.

    Attributes:
        nodes: How many nodes it has.
        steps: About how many steps apart two of them can be.
    """

    nodes: int
    steps: int

    @property
    def width(self) -> float:
        """About how many nodes a cut through the middle separates: 1 for chains, half the side of square grids.

        Complete factors, eliminated in a good order, take about as many operations as those of a dense matrix of a few
        times this side.
        """
        return self.nodes / (self.steps + 1)


def extent(matrix: scipy.sparse.csr_array) -> Extent:
    """Return how far the graph of a matrix extends.

    Twice a search by breadth, the second from the end of the first: a lower bound of the steps, exact on trees and
    grids. An iteration whose preconditioner acts locally needs at least as many to carry information from one end to
    the other.

    Args:
        matrix: Square, CSR, with a symmetric pattern.

    Returns:
        The extent; that of no unknowns is zero.
    """
    n = matrix.shape[0]
    if n == 0:
        return Extent(0, 0)
    seen, queue = np.zeros(n, np.int32), np.empty(n, np.int64)
    best = largest = start = reached = 0
    for _ in range(8):  # components; one that is not found by then holds less than what is left
        _, end, size = kernels().distances(matrix.indptr, matrix.indices, seen, queue, start)
        reached += size
        if size > largest:
            best, _, largest = kernels().distances(matrix.indptr, matrix.indices, seen, queue, end)
        if n - reached <= largest:
            break
        start = int(np.argmin(seen))
    return Extent(int(largest), int(best))


def width(matrix: scipy.sparse.csr_array) -> float:
    """Return about how many unknowns a cut through the middle of the largest component separates; see `Extent`."""
    return extent(matrix).width


def envelope_share(matrix: scipy.sparse.csr_array) -> float:
    """Return the share of the envelope below the diagonal, from the first entry of each row on, that are entries.

    A factorization without pivoting fills in nothing outside of the envelope: where the share is one, incomplete
    factors on the pattern are complete.

    Args:
        matrix: Square, CSR, with a symmetric pattern.

    Returns:
        The share, at most one; one for a diagonal matrix.
    """
    rows = np.flatnonzero(np.diff(matrix.indptr))
    if not len(rows):
        return 1.0
    widths = np.maximum(rows - np.minimum.reduceat(matrix.indices, matrix.indptr[rows]), 0)
    inside = int(widths.sum())
    return 1.0 if inside == 0 else min(1.0, (matrix.nnz - matrix.shape[0]) / (2 * inside))
