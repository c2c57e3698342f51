"""The order of the rows of a sparse matrix in which its diagonal is large."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from precond.math.sparse.complete import extents

Array = np.ndarray[Any, Any]


def largest_on_diagonal(matrix: scipy.sparse.csr_array) -> Array | None:
    """Return the order of the rows that puts the largest entry of each on the diagonal, as ``matrix[order]``.

    Sizes are relative to the largest entry of the column, so that scaled columns make no difference. This undoes a
    permutation of the rows of any matrix with a dominant diagonal; where two rows have their largest entry in one
    column, it is not looked for any further.

    Args:
        matrix: Square.

    Returns:
        The order; ``None`` where there is none of that kind.
    """
    n = matrix.shape[0]
    counts = np.diff(matrix.indptr)
    rows, columns = extents(matrix)
    if not (rows.all() and columns.all()):
        return None
    sizes = np.abs(matrix.data) / columns[matrix.indices]
    largest = np.maximum.reduceat(sizes, matrix.indptr[:-1])
    places = np.flatnonzero(sizes == np.repeat(largest, counts))
    row, first = np.unique(np.repeat(np.arange(n), counts)[places], return_index=True)
    order = np.full(n, -1)
    order[matrix.indices[places[first]]] = row
    return order if (order >= 0).all() else None
