"""The loops behind `precond.math.tall`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

_loose = {"reassoc", "contract", "nsz", "arcp"}  # sums may be reordered; infinities and NaN stay what they are


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def normal(a, x, b, subtract, out):
    """Add ``A^T y`` to ``out`` and return ``y^T y`` with ``y = A x``, or ``y = b - A x``; four rows at a time."""
    m, n = a.shape
    squares = 0.0
    partial = np.empty(n, a.dtype)
    for first in range(0, m, 1024):  # partial sums keep the rounding errors of a long sum small
        partial[:] = 0
        last = min(m, first + 1024)
        whole = first + (last - first) // 4 * 4
        for i in range(first, whole, 4):
            y0 = y1 = y2 = y3 = a.dtype.type(0)
            for k in range(n):
                y0 += a[i, k] * x[k]
                y1 += a[i + 1, k] * x[k]
                y2 += a[i + 2, k] * x[k]
                y3 += a[i + 3, k] * x[k]
            if subtract:
                y0, y1, y2, y3 = b[i] - y0, b[i + 1] - y1, b[i + 2] - y2, b[i + 3] - y3
            for k in range(n):
                partial[k] += y0 * a[i, k] + y1 * a[i + 1, k] + y2 * a[i + 2, k] + y3 * a[i + 3, k]
            squares += y0 * y0 + y1 * y1 + y2 * y2 + y3 * y3
        for i in range(whole, last):
            y0 = a.dtype.type(0)
            for k in range(n):
                y0 += a[i, k] * x[k]
            if subtract:
                y0 = b[i] - y0
            for k in range(n):
                partial[k] += y0 * a[i, k]
            squares += y0 * y0
        for k in range(n):
            out[k] += partial[k]
    return squares


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
