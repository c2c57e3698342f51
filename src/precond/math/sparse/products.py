"""Products with sparse matrices on the CPU.

Compiled by numba with unsigned indices, which saves the test for negative ones: measured on five-point Laplacians, a
product takes 0.8 of the time of SciPy's, and a small one half, as there is less to do around it.
"""

from __future__ import annotations

import functools
import math
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse

from precond.math.krylov import side
from precond.math.machine.threads import share

Array = np.ndarray[Any, Any]
_alone = 2**18  # entries of a matrix up to which a second thread would cost more than it saves
_parts = 8


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.sparse import product_kernels as sparse_kernels

    return sparse_kernels


def unsigned(matrix: scipy.sparse.csr_array) -> tuple[Array, Array, Array]:
    """Return row pointers, columns and values of a CSR matrix with unsigned indices, sharing its memory."""
    kinds = {4: np.uint32, 8: np.uint64}
    indptr, indices = (a.view(kinds[a.dtype.itemsize]) for a in (matrix.indptr, matrix.indices))
    return indptr, indices, matrix.data


def rows_times_csr(parts: tuple[Array, Array, Array], x: Array) -> Array:
    """Return the product of a CSR matrix with each row of ``x``.

    Args:
        parts: Row pointers, columns and values, as `unsigned` returns them.
        x: Vectors, shape ``[batch, n]``, as rows or side by side.

    Returns:
        The products, shape ``[batch, m]``, in the same order.
    """
    indptr, indices, data = parts
    if len(x) == 1:
        return one_times_csr(parts, np.ascontiguousarray(x[0]))[None]
    if side.worthwhile(data, x):
        return side.times(parts, x)
    dtype = data.dtype if data.dtype == x.dtype else np.result_type(data, x)
    out = np.empty((x.shape[0], indptr.size - 1), dtype)
    kernel = _kernels().rows_times_csr
    if data.size < _alone:
        kernel(indptr, indices, data, x, out)
        return out
    m = indptr.size - 1

    def some(first: int, last: int) -> None:
        begin, end = first * m // _parts, last * m // _parts
        kernel(indptr[begin : end + 1], indices, data, x, out[:, begin:end])

    share(some, _parts)
    return out


def one_times_csr(parts: tuple[Array, Array, Array], x: Array) -> Array:
    """Return the product of a CSR matrix, see `rows_times_csr`, with one vector ``[n]``."""
    indptr, indices, data = parts
    m = indptr.size - 1
    out = np.empty(m, data.dtype if data.dtype == x.dtype else np.result_type(data, x))
    kernel = _kernels().one_times_csr
    if data.size < _alone:
        kernel(indptr, indices, data, x, out)
        return out

    def some(first: int, last: int) -> None:
        begin, end = first * m // _parts, last * m // _parts
        kernel(indptr[begin : end + 1], indices, data, x, out[begin:end])

    share(some, _parts)
    return out


def csr_adjoint_times(parts: tuple[Array, Array, Array], columns: int, u: Array) -> Array:
    """Return ``A^H u`` for a CSR matrix with a number of columns and a vector ``[m]``."""
    out = np.zeros(columns, np.result_type(parts[2], u))
    _kernels().csr_adjoint_times(*parts, u, out)
    return out


def csr_there_and_back(parts: tuple[Array, Array, Array], x: Array, scale: float, u: Array) -> Array:
    """Replace ``u`` by ``scale A x - u`` and return ``A^H u``, in one pass over a CSR matrix.

    Args:
        parts: Row pointers, columns and values of the matrix, shape ``[m, n]``, as `unsigned` returns them.
        x: A vector ``[n]``.
        scale: A number.
        u: A vector ``[m]``; written.

    Returns:
        The product with the adjoint, shape ``[n]``.
    """
    out = np.zeros(x.size, u.dtype)
    _kernels().csr_there_and_back(*parts, x, scale, u, out)
    return out


def asymmetry(matrix: scipy.sparse.csr_array, limit: float = math.inf) -> float:
    """Return the asymmetry, see `precond.math.dense.matrix.Facts`; infinite where the matrix is not square.

    Args:
        matrix: With sorted indices and no duplicates.
        limit: Beyond it the search ends with what was found.

    Returns:
        The asymmetry.
    """
    if matrix.shape[0] != matrix.shape[1]:
        return math.inf
    return float(_kernels().asymmetry(matrix.indptr, matrix.indices, matrix.data, limit))
