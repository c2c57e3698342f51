"""Scalings of rows and columns of sparse matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from precond.math.complete import extents


def equilibrated(
    matrix: scipy.sparse.csr_array,
) -> tuple[scipy.sparse.csr_array, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return ``S A T`` with ``S`` and ``T`` the inverse largest entries of rows, then of columns; and both."""
    left = _inverse(extents(matrix)[0], matrix.dtype)
    scaled = scipy.sparse.csr_array(
        (matrix.data * np.repeat(left, np.diff(matrix.indptr)), matrix.indices, matrix.indptr), shape=matrix.shape
    )
    right = _inverse(extents(scaled)[1], matrix.dtype)
    scaled.data *= right[matrix.indices]
    return scaled, left, right


def has_empty_lines(matrix: scipy.sparse.csr_array) -> bool:
    """Whether some row or column holds no entry but zeros, so that no factorization need be tried."""
    stored = matrix.data != 0
    rows = np.add.reduceat(np.append(stored, False), matrix.indptr[:-1]) if matrix.nnz else np.zeros(1)
    rows = np.where(np.diff(matrix.indptr) > 0, rows, 0)
    columns = np.bincount(matrix.indices[stored], minlength=matrix.shape[1])
    return bool((rows == 0).any() or (columns == 0).any())


def _inverse(sizes: np.ndarray[Any, Any], dtype: Any) -> np.ndarray[Any, Any]:
    return (1 / np.where(sizes > 0, sizes, 1)).astype(dtype)
