"""Scalings of rows and columns of sparse matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse


def equilibrated(
    matrix: scipy.sparse.csr_array,
) -> tuple[scipy.sparse.csr_array, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return ``S A T`` with ``S`` and ``T`` the inverse largest entries of rows, then of columns; and both."""
    sizes = abs(matrix)
    left = 1 / _positive(sizes.max(axis=1))
    right = 1 / _positive((scipy.sparse.diags_array(left) @ sizes).max(axis=0))
    scaled = (
        scipy.sparse.diags_array(left.astype(matrix.dtype))
        @ matrix
        @ scipy.sparse.diags_array(right.astype(matrix.dtype))
    )
    return scipy.sparse.csr_array(scaled), left.astype(matrix.dtype), right.astype(matrix.dtype)


def has_empty_lines(matrix: scipy.sparse.csr_array) -> bool:
    """Whether some row or column holds no entry but zeros, so that no factorization need be tried."""
    stored = matrix.data != 0
    rows = np.add.reduceat(np.append(stored, False), matrix.indptr[:-1]) if matrix.nnz else np.zeros(1)
    rows = np.where(np.diff(matrix.indptr) > 0, rows, 0)
    columns = np.bincount(matrix.indices[stored], minlength=matrix.shape[1])
    return bool((rows == 0).any() or (columns == 0).any())


def _positive(largest: Any) -> np.ndarray[Any, Any]:
    values = np.asarray(largest.toarray() if hasattr(largest, "toarray") else largest).ravel()
    return np.where(values > 0, values, 1)
