"""The loops behind `precond.math.sparse.domains`, compiled by numba; import that module, not this one.

``ranges`` has a row ``(first, last, shift)`` for each domain, then for each separator: place ``i`` of the new order,
with ``first <= i < last``, is place ``i + shift`` of the old one (unsigned, modulo ``2^64``).
"""

from __future__ import annotations

import numba
import numpy as np

_u = np.uint64
_loose = {"contract", "nsz"}


@numba.njit(cache=True, nogil=True)
def beginnings(indptr, indices, bounds, begin):
    """Write where the rows of each chunk begin from which on none is coupled to an earlier chunk, or that one to it."""
    for c in range(begin.size):
        begin[c] = bounds[c]
    for c in range(bounds.size - 1):
        for row in range(bounds[c], bounds[c + 1]):
            for t in range(indptr[row], indptr[row + 1]):
                column = np.int64(indices[t])
                if column < bounds[c]:
                    begin[c] = max(begin[c], row + 1)
                elif column >= bounds[c + 1]:
                    other = c + 1
                    while column >= bounds[other + 1]:
                        other += 1
                    begin[other] = max(begin[other], column + 1)


@numba.njit(cache=True, nogil=True)
def crossing(indptr, indices, data, bounds, begin):
    """Return the share that entries of earlier chunks have of what couples separators to others, by absolute values."""
    across, every = 0.0, 0.0
    for c in range(1, bounds.size - 1):
        for row in range(bounds[c], begin[c]):
            for t in range(indptr[row], indptr[row + 1]):
                column, size = np.int64(indices[t]), abs(data[t])
                if column < bounds[c]:
                    across += size
                if column != row:
                    every += size
    return across / every if every > 0 else 0.0


@numba.njit(cache=True, nogil=True)
def reorder(indptr, indices, data, old, new, within, p, i, x):
    """Copy a matrix with sorted columns to a new order of rows and columns; the first ``within`` are of domains."""
    k = 0
    for row in range(old.size):
        p[row] = k
        start, end = indptr[old[row]], indptr[old[row] + 1]
        for separators in (False, True):  # domains keep their order, and so do separators
            for t in range(start, end):
                column = new[indices[t]]
                if (column >= within) == separators:
                    i[k], x[k] = column, data[t]
                    k += 1
    p[old.size] = k


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def down(lp, li, lx, lb, s1, ranges, begin, end, v, y):
    """Sweep forth over some ranges: ``y = (I + L)^-1 S1 v``, ``y`` in the new order."""
    for c in range(begin, end):
        first, last, shift = ranges[c, 0], ranges[c, 1], ranges[c, 2]
        if first >= last:
            continue
        before = y[first - _u(1)] if lb[first] != 0 else y.dtype.type(0)
        start = lp[first]
        for i in range(first, last):
            total = s1[i] * v[i + shift] if s1.size else v[i + shift]
            stop = lp[i + _u(1)]
            for t in range(start, stop):
                total -= lx[t] * y[li[t]]
            before = total - lb[i] * before
            y[i] = before
            start = stop


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def back(up, ui, ux, ub, s2, s3, ranges, begin, end, y, out):
    """Sweep back over some ranges, the last first: ``S3 (I + U)^-1 S2 y``, to the old order."""
    for c in range(end - 1, begin - 1, -1):
        first, last, shift = ranges[c, 0], ranges[c, 1], ranges[c, 2]
        if first >= last:
            continue
        before = y[last] if ub[last - _u(1)] != 0 else y.dtype.type(0)
        stop = up[last]
        for k in range(_u(1), last - first + _u(1)):
            i = last - k
            total = s2[i] * y[i]
            start = up[i]
            for t in range(start, stop):
                total -= ux[t] * y[ui[t]]
            before = total - ub[i] * before
            y[i] = before
            out[i + shift] = s3[i] * before if s3.size else before
            stop = start
