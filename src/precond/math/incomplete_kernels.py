"""The loops behind `precond.math.incomplete`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def incomplete_cholesky(indptr, indices, data, shift, smallest):
    """Overwrite the lower triangle in ``data`` by its IC(0) factor; return the row that failed, or -1."""
    for i in range(indptr.size - 1):
        first, last = indptr[i], indptr[i + 1] - 1
        for t in range(first, last):
            k = indices[t]
            u, end = indptr[k], indptr[k + 1] - 1
            total = data[t]
            s = first
            while s < t and u < end:  # the sorted rows i and k: walk to the columns that both have
                if indices[s] == indices[u]:
                    total -= data[s] * np.conj(data[u])
                    s += 1
                    u += 1
                elif indices[s] < indices[u]:
                    s += 1
                else:
                    u += 1
            data[t] = total / data[end]
        pivot = data[last].real + shift
        for t in range(first, last):
            pivot -= (data[t] * np.conj(data[t])).real
        if not pivot > smallest:  # also catches NaN
            return i
        data[last] = np.sqrt(pivot)
    return -1


@numba.njit(cache=True, nogil=True)
def incomplete_lu(indptr, indices, data, diagonal, smallest):
    """Overwrite ``data`` by the ILU(0) factors (unit lower, upper); return the row that failed, or -1."""
    n = indptr.size - 1
    place = np.full(n, -1, np.int64)  # of each column in the current row
    for i in range(n):
        first, last = indptr[i], indptr[i + 1]
        largest = 0.0
        for t in range(first, last):
            place[indices[t]] = t
            largest = max(largest, abs(data[t]))
        for t in range(first, diagonal[i]):
            k = indices[t]
            data[t] /= data[diagonal[k]]
            for u in range(diagonal[k] + 1, indptr[k + 1]):
                if place[indices[u]] >= 0:
                    data[place[indices[u]]] -= data[t] * data[u]
        for t in range(first, last):
            place[indices[t]] = -1
        if not abs(data[diagonal[i]]) > smallest * largest:  # also catches NaN
            return i
    return -1


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})  # a multiply-add shortens the chain of each row
def two_sweeps(lp, li, lx, up, ui, ux, s1, s2, s3, v, out):
    """Write ``S3 (I + U)^-1 S2 (I + L)^-1 S1 v`` to ``out``, row by row; ``p, i, x`` are pointers, columns, values."""
    n = s1.size
    for row in range(v.shape[0]):
        w, y = v[row], out[row]
        for i in range(n):
            total = s1[i] * w[i]
            for t in range(lp[i], lp[i + 1]):
                total -= lx[t] * y[li[t]]
            y[i] = total
        for i in range(n - 1, -1, -1):
            total = s2[i] * y[i]
            for t in range(up[i + 1] - 1, up[i] - 1, -1):  # the nearest column, just computed, comes last
                total -= ux[t] * y[ui[t]]
            y[i] = total
        for i in range(n):
            y[i] *= s3[i]


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def permuted_sweeps(lp, li, lx, up, ui, ux, inverse, rows, columns, v, out):
    """Write ``C (I + U)^-1 S (I + L)^-1 R v`` to ``out``, with two sums at a time, as rows are long."""
    n = inverse.size
    y = np.empty(n, out.dtype)
    for row in range(v.shape[0]):
        w, x = v[row], out[row]
        for i in range(n):
            even, odd = w[rows[i]] * inverse.dtype.type(1), out.dtype.type(0)
            t, end = lp[i], lp[i + 1]
            while t + 1 < end:
                even -= lx[t] * y[li[t]]
                odd -= lx[t + 1] * y[li[t + 1]]
                t += 2
            if t < end:
                even -= lx[t] * y[li[t]]
            y[i] = even + odd
        for i in range(n - 1, -1, -1):
            even, odd = inverse[i] * y[i], out.dtype.type(0)
            t, start = up[i + 1], up[i]
            while t > start + 1:
                odd -= ux[t - 1] * y[ui[t - 1]]
                even -= ux[t - 2] * y[ui[t - 2]]
                t -= 2
            if t > start:
                even -= ux[start] * y[ui[start]]
            y[i] = even + odd
        for j in range(n):
            x[j] = y[columns[j]]
