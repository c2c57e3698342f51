"""Complete sparse factors: what is to be known before SuperLU makes them, and the triangles that it returns."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse

from precond.math.sparse.products import asymmetry
from precond.math.sparse.sweeps import Triangle

Array = np.ndarray[Any, Any]


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.sparse import complete_kernels

    return complete_kernels


def extents(matrix: scipy.sparse.csr_array) -> tuple[Array, Array]:
    """Return the largest sizes of the entries of each row and of each column; zero where there are none."""
    real = np.empty(0, matrix.dtype).real.dtype
    rows, columns = np.zeros(matrix.shape[0], real), np.zeros(matrix.shape[1], real)
    _kernels().extents(matrix.indptr, matrix.indices, matrix.data, rows, columns)
    return rows, columns


def has_symmetric_pattern(matrix: scipy.sparse.csr_array) -> bool:
    """Whether the mirror image of each stored entry of a square matrix with sorted columns is stored, too."""
    ones = np.ones(matrix.nnz, np.float32)
    return asymmetry(scipy.sparse.csr_array((ones, matrix.indices, matrix.indptr), shape=matrix.shape)) == 0


def triangle_by_rows(factor: scipy.sparse.csc_array) -> tuple[Triangle, Array]:
    """Return the rows of a triangle given by its columns.

    Args:
        factor: A triangle with its diagonal, each entry once.

    Returns:
        Row pointers, columns (both 32 bits, unsigned, where they fit; sorted) and values without the diagonal, and the
        diagonal.
    """
    n = factor.shape[0]
    small = np.uint32 if max(factor.nnz, n) < 2**32 else np.uint64
    pointers, diagonal = np.zeros(n + 1, small), np.zeros(n, factor.dtype)
    columns, values = np.empty(factor.nnz, small), np.empty(factor.nnz, factor.dtype)
    _kernels().rows_of_columns(factor.indptr, factor.indices, factor.data, pointers, columns, values, diagonal)
    inside = int(pointers[-1])
    return (pointers, columns[:inside], values[:inside]), diagonal
