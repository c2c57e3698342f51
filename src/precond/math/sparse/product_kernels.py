"""The loops behind `precond.math.sparse.products`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

_slab = 512  # rows of the matrix that stay in the cache while all vectors are multiplied


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def rows_times_csr(indptr, indices, data, x, out):
    """Write the product of a CSR matrix with each row of ``x`` to the rows of ``out``."""
    whole = x.shape[0] // 4 * 4
    if whole > 0:
        for first in range(0, out.shape[1], _slab):
            last = min(out.shape[1], first + _slab)
            for row in range(0, whole, 4):
                _four_rows(indptr, indices, data, x, out, row, first, last)
    for row in range(whole, x.shape[0]):
        one_times_csr(indptr, indices, data, x[row], out[row])


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def one_times_csr(indptr, indices, data, x, out):
    """Write the product of a CSR matrix with a vector to ``out``."""
    start = indptr[0]
    for i in range(out.size):
        total = out.dtype.type(0)
        end = indptr[i + 1]
        for t in range(start, end):
            total += data[t] * x[indices[t]]
        out[i] = total
        start = end


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def csr_adjoint_times(indptr, indices, data, u, out):
    """Add the product of the adjoint of a CSR matrix with a vector to ``out``."""
    start = indptr[0]
    for i in range(u.size):
        factor, end = u[i], indptr[i + 1]
        for t in range(start, end):
            out[indices[t]] += np.conj(data[t]) * factor
        start = end


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def csr_there_and_back(indptr, indices, data, x, scale, u, out):
    """Replace ``u`` by ``scale A x - u`` for a CSR matrix, and add ``A^H u`` to ``out``; each row is read once."""
    start = indptr[0]
    for i in range(u.size):
        total, end = u.dtype.type(0), indptr[i + 1]
        for t in range(start, end):
            total += data[t] * x[indices[t]]
        factor = u.dtype.type(scale * total - u[i])
        u[i] = factor
        for t in range(start, end):
            out[indices[t]] += np.conj(data[t]) * factor
        start = end


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, inline="always")
def _four_rows(indptr, indices, data, x, out, row, first, last):
    """Write some entries of four products, reading each entry of the matrix once for all of them."""
    v0, v1, v2, v3 = x[row], x[row + 1], x[row + 2], x[row + 3]
    y0, y1, y2, y3 = out[row], out[row + 1], out[row + 2], out[row + 3]
    start = indptr[first]
    for i in range(first, last):
        s0 = s1 = s2 = s3 = out.dtype.type(0)
        end = indptr[i + 1]
        for t in range(start, end):
            a, j = data[t], indices[t]
            s0 += a * v0[j]
            s1 += a * v1[j]
            s2 += a * v2[j]
            s3 += a * v3[j]
        y0[i], y1[i], y2[i], y3[i] = s0, s1, s2, s3
        start = end


@numba.njit(cache=True, nogil=True)
def asymmetry(indptr, indices, data, limit):
    """Return the asymmetry, see `precond.math.dense.matrix.Facts`, of a square CSR matrix with sorted columns.

    Rows are walked once, with a place in each that moves on when its mirror image has been met. An entry without one
    has zero as its mirror image; beyond ``limit`` the first value found is returned.
    """
    n = indptr.size - 1
    place = indptr[:-1].copy()
    zero = data.dtype.type(0)
    worst = 0.0
    for i in range(n):
        end = indptr[i + 1]
        t = place[i]
        while t < end and indices[t] < i:  # left of the diagonal and not met from above
            if data[t] != 0:
                worst = max(worst, _difference(indptr, indices, data, i, indices[t], data[t], zero))
            t += 1
        while t < end and worst <= limit:
            j, a = indices[t], data[t]
            t += 1
            b = zero
            if j == i:
                b = a
            else:
                s, last = place[j], indptr[j + 1]
                while s < last and indices[s] < i:
                    if data[s] != 0:
                        worst = max(worst, _difference(indptr, indices, data, j, indices[s], data[s], zero))
                    s += 1
                if s < last and indices[s] == i:
                    b = data[s]
                    s += 1
                place[j] = s
            if a != np.conj(b):
                worst = max(worst, _difference(indptr, indices, data, i, j, a, b))
        if worst > limit:
            return worst
    return worst


@numba.njit(cache=True, nogil=True)
def _difference(indptr, indices, data, i, j, a, b):
    """Return how far entry ``a`` of row ``i`` and column ``j`` is from its mirror image ``b``, in units of both."""
    scale = max(min(abs(a), abs(b)), _root(indptr, indices, data, i) * _root(indptr, indices, data, j))
    return abs(a - np.conj(b)) / scale if scale > 0 else np.inf


@numba.njit(cache=True, nogil=True)
def _root(indptr, indices, data, i):
    """Return the root of the size of a diagonal entry."""
    start, end = indptr[i], indptr[i + 1]
    t = start + np.searchsorted(indices[start:end], i)
    return np.sqrt(abs(data[t])) if t < end and indices[t] == i else 0.0
