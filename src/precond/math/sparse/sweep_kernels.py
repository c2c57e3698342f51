"""The loops behind `precond.math.sparse.sweeps`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

_u = np.uint64


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})  # a multiply-add shortens the chain of each row
def two_sweeps(lp, li, lx, lb, up, ui, ux, ub, s1, s2, s3, v, out):
    """Write ``S3 (I + U)^-1 S2 (I + L)^-1 S1 v`` to ``out``, row by row; ``p, i, x`` are pointers, columns, values.

    The entries beside the diagonal, ``b``, stand apart: what they multiply was computed just before and is still in a
    register, while memory would give it back only some ten cycles later. Empty ``s1`` and ``s3`` stand for ones.
    Unsigned counters save a test for negative places, a fifth of the time.
    """
    n = _u(s2.size)
    for row in range(v.shape[0]):
        w, y = v[row], out[row]
        before = y.dtype.type(0)
        start = lp[0]
        for i in range(_u(0), n):
            total = s1[i] * w[i] if s1.size else w[i]
            end = lp[i + _u(1)]
            for t in range(start, end):
                total -= lx[t] * y[li[t]]
            before = total - lb[i] * before
            y[i] = before
            start = end
        before = y.dtype.type(0)
        end = up[n]
        for k in range(_u(1), n + _u(1)):
            i = n - k
            total = s2[i] * y[i]
            start = up[i]
            for t in range(start, end):
                total -= ux[t] * y[ui[t]]
            before = total - ub[i] * before
            y[i] = before
            end = start
        if s3.size:
            for i in range(n):
                y[i] *= s3[i]


@numba.njit(cache=True, nogil=True)
def beside_diagonal(indptr, indices, data, offset, p, i, x, beside):
    """Copy a triangle, taking the entries at ``offset`` from the diagonal out of it; return how many are left."""
    k = 0
    for row in range(indptr.size - 1):
        p[row] = k
        beside[row] = 0
        for t in range(indptr[row], indptr[row + 1]):
            if np.int64(indices[t]) == row + offset:
                beside[row] = data[t]
            else:
                i[k], x[k] = indices[t], data[t]
                k += 1
    p[indptr.size - 1] = k
    return k


@numba.njit(cache=True, nogil=True)
def split_sweeps(indptr, indices, factors, diagonal, lp, li, lx, lb, up, ui, ux, ub, inverse):
    """Write both factors as `two_sweeps` takes them, the rows of the upper one divided by their pivots."""
    lower = upper = 0
    for row in range(indptr.size - 1):
        lp[row], up[row] = lower, upper
        lb[row] = ub[row] = 0
        inverse[row] = 1 / factors[diagonal[row]]
        for t in range(indptr[row], diagonal[row]):
            if np.int64(indices[t]) == row - 1:
                lb[row] = factors[t]
            else:
                li[lower], lx[lower] = indices[t], factors[t]
                lower += 1
        for t in range(diagonal[row] + 1, indptr[row + 1]):
            if np.int64(indices[t]) == row + 1:
                ub[row] = factors[t] * inverse[row]
            else:
                ui[upper], ux[upper] = indices[t], factors[t] * inverse[row]
                upper += 1
    lp[indptr.size - 1], up[indptr.size - 1] = lower, upper
    return lower, upper


@numba.njit(cache=True, nogil=True)
def cholesky_sweeps(indptr, indices, data, scale, lp, li, lx, lb, up, ui, ux, ub, s2):
    """Write what `two_sweeps` needs for ``S L^-H L^-1 S``, without scalings but ``S2``, from the rows of ``L``.

    With ``p`` the diagonal of ``L``: ``S L^-H L^-1 S = (I + T^H)^-1 S2 (I + T)^-1``, where ``T`` is the strict triangle
    of ``S^-1 L diag(1/p) S``, and ``S2 = S^2 / p^2``.
    """
    n = scale.size
    up[:] = 0
    ub[:] = 0
    k = 0
    for row in range(n):
        lp[row] = k
        lb[row] = 0
        last = indptr[row + 1] - 1
        s2[row] = (scale[row] / data[last].real) ** 2
        for t in range(indptr[row], last):
            j = indices[t]
            value = data[t] / data[indptr[j + 1] - 1]
            if j == row - 1:
                lb[row] = value * scale[j] / scale[row]
                ub[j] = np.conj(value) * scale[j] / scale[row]
            else:
                li[k], lx[k] = j, value * scale[j] / scale[row]
                up[j + 1] += 1
                k += 1
    lp[n] = k
    for row in range(n):
        up[row + 1] += up[row]
    fill = up[:-1].copy()
    for row in range(n):  # by columns of T, which are rows of U
        for t in range(lp[row], lp[row + 1]):
            j = li[t]
            ui[fill[j]], ux[fill[j]] = row, np.conj(lx[t])
            fill[j] += 1


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
