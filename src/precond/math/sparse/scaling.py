"""Scalings of rows and columns of sparse matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from precond.math.sparse.complete import extents


def equilibrated(
    matrix: scipy.sparse.csr_array,
) -> tuple[scipy.sparse.csr_array, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return ``S A T`` with ``S`` and ``T`` the inverse largest entries of rows and columns, and the diagonals of both.

    Those lines come first that differ more from one another, so that it makes no difference whether the rows or the
    columns of a matrix are badly scaled; the others are scaled as they are left.
    """
    rows, columns = extents(matrix)
    data, counts = matrix.data, np.diff(matrix.indptr)
    columns_first = _spread(columns) > _spread(rows)
    left = right = np.ones(1, matrix.dtype)
    for by_columns in (columns_first, not columns_first):
        now = scipy.sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
        inverse = _inverse(extents(now)[int(by_columns)], matrix.dtype)
        data = data * (inverse[matrix.indices] if by_columns else np.repeat(inverse, counts))
        left, right = (left, inverse) if by_columns else (inverse, right)
    return scipy.sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape), left, right


def equilibrated_array(
    matrix: np.ndarray[Any, Any],
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return what `equilibrated` does, of a small matrix in which zeros are stored."""
    sizes = np.abs(matrix)
    rows, columns = sizes.max(axis=1), sizes.max(axis=0)
    if _spread(columns) > _spread(rows):
        right = _inverse(columns, matrix.dtype)
        left = _inverse((sizes * np.abs(right)).max(axis=1), matrix.dtype)
    else:
        left = _inverse(rows, matrix.dtype)
        right = _inverse((sizes * np.abs(left)[:, None]).max(axis=0), matrix.dtype)
    return matrix * left[:, None] * right, left, right


def by_diagonal(
    matrix: scipy.sparse.csr_array, most: float
) -> tuple[scipy.sparse.csr_array, np.ndarray[Any, Any]] | None:
    """Return ``S A S``, whose diagonal has size one, and that of ``S``; ``None`` where an entry is above ``most``."""
    diagonal = np.abs(matrix.diagonal())
    if not diagonal.all():
        return None
    roots = (1 / np.sqrt(diagonal)).astype(matrix.dtype)
    data = matrix.data * np.repeat(roots, np.diff(matrix.indptr)) * roots[matrix.indices]
    if not (np.abs(data) <= most).all():
        return None
    return scipy.sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape), roots


def has_empty_lines(matrix: scipy.sparse.csr_array) -> bool:
    """Whether some row or column holds no entry but zeros, so that no factorization need be tried."""
    stored = matrix.data != 0
    rows = np.add.reduceat(np.append(stored, False), matrix.indptr[:-1]) if matrix.nnz else np.zeros(1)
    rows = np.where(np.diff(matrix.indptr) > 0, rows, 0)
    columns = np.bincount(matrix.indices[stored], minlength=matrix.shape[1])
    return bool((rows == 0).any() or (columns == 0).any())


def _spread(sizes: np.ndarray[Any, Any]) -> float:
    """Return the ratio of the largest to the smallest that is not zero."""
    some = sizes[sizes > 0]
    return float(some.max() / some.min()) if some.size else 1.0


def _inverse(sizes: np.ndarray[Any, Any], dtype: Any) -> np.ndarray[Any, Any]:
    return (1 / np.where(sizes > 0, sizes, 1)).astype(dtype)
