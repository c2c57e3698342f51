"""The loops behind `precond.math.dense.tall`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

_loose = {"reassoc", "contract", "nsz", "arcp"}  # sums may be reordered; infinities and NaN stay what they are


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def rows_there_and_back(a, x, scale, u, out, begin, end):
    """Replace ``u`` by ``scale A x - u`` and add ``A^T u`` to ``out`` for some rows of ``A [m, n]``, four at a time."""
    n = a.shape[1]
    kind, factor = x.dtype.type, u.dtype.type(scale)
    partial = np.empty(n, x.dtype)
    for first in range(begin, end, 1024):  # partial sums keep the rounding errors of a long sum small
        partial[:] = 0
        last = min(end, first + 1024)
        whole = first + (last - first) // 4 * 4
        for i in range(first, whole, 4):
            y0 = y1 = y2 = y3 = kind(0)
            for k in range(n):
                y0 += a[i, k] * x[k]
                y1 += a[i + 1, k] * x[k]
                y2 += a[i + 2, k] * x[k]
                y3 += a[i + 3, k] * x[k]
            u[i], u[i + 1] = factor * y0 - u[i], factor * y1 - u[i + 1]
            u[i + 2], u[i + 3] = factor * y2 - u[i + 2], factor * y3 - u[i + 3]
            y0, y1, y2, y3 = kind(u[i]), kind(u[i + 1]), kind(u[i + 2]), kind(u[i + 3])
            for k in range(n):
                partial[k] += y0 * a[i, k] + y1 * a[i + 1, k] + y2 * a[i + 2, k] + y3 * a[i + 3, k]
        for i in range(whole, last):
            y0 = kind(0)
            for k in range(n):
                y0 += a[i, k] * x[k]
            u[i] = factor * y0 - u[i]
            y0 = kind(u[i])
            for k in range(n):
                partial[k] += y0 * a[i, k]
        for k in range(n):
            out[k] += partial[k]


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def columns_there_and_back(columns, x, scale, u, out, begin, end):
    """Do some rows by the columns of ``A``, shape ``[n, m]``: four at a time, as many rows as a cache holds."""
    n = len(columns)
    kind, factor = x.dtype.type, u.dtype.type(scale)
    whole = n // 4 * 4
    block = np.empty(1024, x.dtype)
    for first in range(begin, end, 1024):
        last = min(end, first + 1024)
        y, rows, rest = block[: last - first], slice(first, last), u[first:last]
        y[:] = 0
        for k in range(0, whole, 4):
            a0, a1, a2, a3 = columns[k, rows], columns[k + 1, rows], columns[k + 2, rows], columns[k + 3, rows]
            x0, x1, x2, x3 = x[k], x[k + 1], x[k + 2], x[k + 3]
            for i in range(y.size):
                y[i] += x0 * a0[i] + x1 * a1[i] + x2 * a2[i] + x3 * a3[i]
        for k in range(whole, n):
            a0, x0 = columns[k, rows], x[k]
            for i in range(y.size):
                y[i] += x0 * a0[i]
        for i in range(y.size):
            rest[i] = factor * y[i] - rest[i]
            y[i] = kind(rest[i])
        for k in range(0, whole, 4):
            a0, a1, a2, a3 = columns[k, rows], columns[k + 1, rows], columns[k + 2, rows], columns[k + 3, rows]
            s0 = s1 = s2 = s3 = kind(0)
            for i in range(y.size):
                s0 += a0[i] * y[i]
                s1 += a1[i] * y[i]
                s2 += a2[i] * y[i]
                s3 += a3[i] * y[i]
            out[k] += s0
            out[k + 1] += s1
            out[k + 2] += s2
            out[k + 3] += s3
        for k in range(whole, n):
            a0, s0 = columns[k, rows], kind(0)
            for i in range(y.size):
                s0 += a0[i] * y[i]
            out[k] += s0


@numba.njit(cache=True, nogil=True)
def parts_by_rows(a, x, scale, u, products, first, last):
    """Do some of as many parts of the rows of ``A [m, n]`` as there are ``products``, each with its own."""
    m, parts = len(u), len(products)
    for k in range(first, last):
        rows_there_and_back(a, x, scale, u, products[k], k * m // parts, (k + 1) * m // parts)


@numba.njit(cache=True, nogil=True)
def parts_by_columns(columns, x, scale, u, products, first, last):
    """Do some of as many parts of the rows of ``A``, shape ``[n, m]``, as there are ``products``, each with its own."""
    m, parts = len(u), len(products)
    for k in range(first, last):
        columns_there_and_back(columns, x, scale, u, products[k], k * m // parts, (k + 1) * m // parts)


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def scatter(a, places, signs, out):
    """Add each row of ``a``, with signs, to the rows ``places`` of ``out``."""
    m, n = a.shape
    for i in range(m):
        for j in range(places.shape[1]):
            row, sign = places[i, j], signs[i, j]
            for k in range(n):
                out[row, k] += sign * a[i, k]


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def column_squares(a, out):
    """Add the square of each entry to the sum of its column."""
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            out[k] += a[i, k] * a[i, k]
