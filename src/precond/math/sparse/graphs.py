"""Shapes of the graph of a sparse matrix."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from precond.math.sparse.multigrid import kernels


def diameter(matrix: scipy.sparse.csr_array) -> int:
    """Return about how many steps apart two unknowns can be, over the largest connected component.

    Twice a search by breadth, the second from the end of the first: a lower bound, exact on trees and grids. An
    iteration whose preconditioner acts locally needs at least as many steps to carry information from one end to the
    other.

    Args:
        matrix: Square, CSR, with a symmetric pattern.

    Returns:
        The number of steps.
    """
    n = matrix.shape[0]
    seen, queue = np.zeros(n, np.int32), np.empty(n, np.int64)
    best = largest = start = 0
    for _ in range(8):  # components; one that is not found by then holds less than what is left
        depth, end, size = kernels().distances(matrix.indptr, matrix.indices, seen, queue, start)
        if size > largest:
            depth, _, largest = kernels().distances(matrix.indptr, matrix.indices, seen, queue, end)
            best = depth
        rest = np.flatnonzero(seen == 0)
        if rest.size <= largest:
            break
        start = int(rest[0])
    return int(best)


def width(matrix: scipy.sparse.csr_array) -> float:
    """Return about how many unknowns a cut through the middle of the largest connected component separates.

    That is its size over its diameter: 1 for chains, half the side of square grids. Complete factors, eliminated in a
    good order, take about as many operations as those of a dense matrix of a few times this side.

    Args:
        matrix: Square, CSR, with a symmetric pattern.

    Returns:
        The number of unknowns; 0 where there are none.
    """
    n = matrix.shape[0]
    if n == 0:
        return 0.0
    _, labels = scipy.sparse.csgraph.connected_components(matrix, directed=False)
    sizes = np.bincount(labels)
    start = int(np.flatnonzero(labels == sizes.argmax())[0])
    seen, queue = np.zeros(n, np.int32), np.empty(n, np.int64)
    _, end, _ = kernels().distances(matrix.indptr, matrix.indices, seen, queue, start)
    depth, _, _ = kernels().distances(matrix.indptr, matrix.indices, seen, queue, end)
    return float(sizes.max() / (depth + 1))


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
