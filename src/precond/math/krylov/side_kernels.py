"""The loops behind `precond.math.krylov.side`, compiled by numba; import that module, not this one.

Vectors lie side by side in flat arrays: entry ``i`` of vector ``k`` of ``count`` is number ``i count + k``.
"""

from __future__ import annotations

import numba
import numpy as np

from precond.math.machine import lanes

_u = np.uint64
_tile = 512  # numbers of a vector update that are taken at a time
_run = 64  # entries of a vector that are copied at a time, so that whole pages are not jumped over
_loose = {"reassoc", "contract", "nsz"}


_all = _u(2**64 - 1)  # a mask that changes nothing


@numba.njit(cache=True, nogil=True)
def join(x, out):
    """Write the rows of ``x`` side by side."""
    n = _u(x.shape[1])
    _join(x.reshape(-1), _u(x.shape[0]), n, _u(0), n, out, _all)


@numba.njit(cache=True, nogil=True)
def _join(x, count, n, begin, end, out, mask):
    """Write some entries of rows side by side, entry ``i`` to place ``i & mask``; ``begin`` is a multiple of 8."""
    columns, length = count // _u(8) * _u(8), n // _u(8) * _u(8)
    for first in range(begin, end, _u(_run)):
        last = min(end, first + _u(_run))
        for k in range(_u(0), columns, _u(8)):
            for i in range(first, min(last, length), _u(8)):
                lanes.transpose(x, k * n + i, n, out, (i & mask) * count + k, count)
            for i in range(max(first, length), last):
                for r in range(k, k + _u(8)):
                    out[(i & mask) * count + r] = x[r * n + i]
        for k in range(columns, count):
            for i in range(first, last):
                out[(i & mask) * count + k] = x[k * n + i]


@numba.njit(cache=True, nogil=True)
def part(x, out):
    """Write vectors that lie side by side to the rows of ``out``."""
    count, n = _u(out.shape[0]), _u(out.shape[1])
    target = out.reshape(-1)
    columns, length = count // _u(8) * _u(8), n // _u(8) * _u(8)
    for first in range(_u(0), n, _u(_run)):
        last = min(n, first + _u(_run))
        for k in range(_u(0), columns, _u(8)):
            for i in range(first, min(last, length), _u(8)):
                lanes.transpose(x, i * count + k, count, target, k * n + i, n)
            for i in range(length, last):
                for r in range(k, k + _u(8)):
                    target[r * n + i] = x[i * count + r]
        for k in range(columns, count):
            for i in range(first, last):
                target[k * n + i] = x[i * count + k]


@numba.njit(cache=True, nogil=True, inline="always")
def _product(indptr, indices, data, x, mask, count, row, out, at):
    """Write a row of the product with all vectors."""
    start, end = _u(indptr[row]), _u(indptr[row + _u(1)])
    k = _u(0)
    while k + _u(16) <= count:
        lanes.product16(data, indices, start, end, x, mask, count, k, out, at + k)
        k += _u(16)
    if k + _u(8) <= count:
        lanes.product8(data, indices, start, end, x, mask, count, k, out, at + k)
        k += _u(8)
    if k + _u(4) <= count:
        lanes.product4(data, indices, start, end, x, mask, count, k, out, at + k)
        k += _u(4)
    if k + _u(2) <= count:
        lanes.product2(data, indices, start, end, x, mask, count, k, out, at + k)
        k += _u(2)
    if k < count:
        lanes.product1(data, indices, start, end, x, mask, count, k, out, at + k)


@numba.njit(cache=True, nogil=True)
def times(indptr, indices, data, x, count, out):
    """Write the product of a CSR matrix with vectors side by side."""
    for row in range(_u(0), _u(indptr.size - 1)):
        _product(indptr, indices, data, x, _all, count, row, out, row * count)


@numba.njit(cache=True, nogil=True)
def times_rows(indptr, indices, data, x, out):
    """Write the product of a CSR matrix with the rows of ``x`` to the rows of ``out``.

    Entries are laid side by side shortly before they are needed, in a ring that stays in the cache where the band of
    the matrix is narrow.
    """
    count, n, m = _u(x.shape[0]), _u(x.shape[1]), _u(out.shape[1])
    source, target = x.reshape(-1), out.reshape(-1)
    size = _ring(indptr, indices, m, n)
    ring, mask = np.empty(size * count, out.dtype), size - _u(1)
    some, ready = np.empty(_u(_run) * count, out.dtype), _u(0)
    columns = count // _u(8) * _u(8)
    for first in range(_u(0), m, _u(_run)):
        last = min(m, first + _u(_run))
        need = ready
        for t in range(_u(indptr[first]), _u(indptr[last])):
            need = max(need, _u(indices[t]) + _u(1))
        if need > ready:
            need = min(n, (need + _u(_run - 1)) // _u(_run) * _u(_run))
            _join(source, count, n, ready, need, ring, mask)
            ready = need
        for row in range(first, last):
            _product(indptr, indices, data, ring, mask, count, row, some, (row - first) * count)
        whole = first + (last - first) // _u(8) * _u(8)
        for k in range(_u(0), columns, _u(8)):
            for row in range(first, whole, _u(8)):
                lanes.transpose(some, (row - first) * count + k, count, target, k * m + row, m)
            for row in range(whole, last):
                for r in range(k, k + _u(8)):
                    target[r * m + row] = some[(row - first) * count + r]
        for k in range(columns, count):
            for row in range(first, last):
                target[k * m + row] = some[(row - first) * count + k]


@numba.njit(cache=True, nogil=True)
def _ring(indptr, indices, m, n):
    """Return a power of two: entries that a ring must hold so that none is overwritten before its last use."""
    size, ready = _u(_run), _u(0)
    for first in range(_u(0), m, _u(_run)):
        least = n
        for t in range(_u(indptr[first]), _u(indptr[min(m, first + _u(_run))])):
            least, ready = min(least, _u(indices[t])), max(ready, _u(indices[t]) + _u(1))
        while least < n and least + size < ready + _u(_run):
            size *= _u(2)
    return size


@numba.njit(cache=True, nogil=True, inline="always")
def _solved(p, i, x, row, y, count, first, scale, factor, before):
    """Write a row of the solution of a triangular system for all vectors, the entry beside the diagonal apart."""
    start, end, at, beside = _u(p[row]), _u(p[row + _u(1)]), row * count, before * count
    k = _u(0)
    while k + _u(16) <= count:
        lanes.solved16(x, i, start, end, y, count, k, at + k, first, scale, factor, beside + k)
        k += _u(16)
    if k + _u(8) <= count:
        lanes.solved8(x, i, start, end, y, count, k, at + k, first, scale, factor, beside + k)
        k += _u(8)
    if k + _u(4) <= count:
        lanes.solved4(x, i, start, end, y, count, k, at + k, first, scale, factor, beside + k)
        k += _u(4)
    if k + _u(2) <= count:
        lanes.solved2(x, i, start, end, y, count, k, at + k, first, scale, factor, beside + k)
        k += _u(2)
    if k < count:
        lanes.solved1(x, i, start, end, y, count, k, at + k, first, scale, factor, beside + k)


@numba.njit(cache=True, nogil=True)
def two_sweeps(lp, li, lx, lb, up, ui, ux, ub, s1, s2, s3, v, count, out):
    """Do what `precond.math.sparse.sweep_kernels.two_sweeps` does, for vectors side by side."""
    n, one = _u(s2.size), out.dtype.type(1)
    for k in range(count):
        out[k] = s1[0] * v[k] if s1.size else v[k]
    for row in range(_u(1), n):
        _solved(lp, li, lx, row, out, count, v, s1[row] if s1.size else one, lb[row], row - _u(1))
    for k in range((n - _u(1)) * count, n * count):
        out[k] *= s2[n - _u(1)]
    for back in range(_u(2), n + _u(1)):
        row = n - back
        _solved(up, ui, ux, row, out, count, out, s2[row], ub[row], row + _u(1))
    if s3.size:
        for row in range(n):
            for k in range(row * count, (row + _u(1)) * count):
                out[k] *= s3[row]


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def dots(x, y, out):
    """Write the inner products of vectors side by side."""
    count = out.size
    step = max(1, _tile // count) * count
    totals = np.zeros(step)
    for first in range(0, x.size, step):
        a, b = x[first : first + step], y[first : first + step]
        for q in range(a.size):
            totals[q] += a[q] * b[q]
    _folded(totals, out)


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def advance(x, r, p, q, alpha, norms):
    """Add ``alpha p`` to ``x`` and take ``alpha q`` from ``r``; write the norms of ``r``."""
    count = alpha.size
    step = max(1, _tile // count) * count
    totals, factors = np.zeros(step), np.empty(step, x.dtype)
    for q_ in range(step):
        factors[q_] = alpha[q_ % count]
    for first in range(0, x.size, step):
        last = first + step
        to, rest, along, image = x[first:last], r[first:last], p[first:last], q[first:last]
        for t in range(to.size):
            to[t] += factors[t] * along[t]
        for t in range(to.size):
            left = rest[t] - factors[t] * image[t]
            rest[t] = left
            totals[t] += left * left
    _folded(totals, norms)
    for k in range(count):
        norms[k] = np.sqrt(norms[k])


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def turn(p, z, beta):
    """Replace ``p`` by ``z + beta p``."""
    count = beta.size
    step = max(1, _tile // count) * count
    factors = np.empty(step, p.dtype)
    for t in range(step):
        factors[t] = beta[t % count]
    for first in range(0, p.size, step):
        along, vector = p[first : first + step], z[first : first + step]
        for t in range(along.size):
            along[t] = vector[t] + factors[t] * along[t]


@numba.njit(cache=True, nogil=True, inline="always")
def _folded(totals, out):
    """Add up the numbers that belong to the same vector."""
    out[:] = 0
    for t in range(totals.size):
        out[t % out.size] += totals[t]


@numba.njit(cache=True, nogil=True)
def gram(x, y, out):
    """Add the inner products of vectors side by side to ``out``, a row for each vector of ``x``."""
    wide, high = _u(out.shape[1]), _u(out.shape[0])
    n, total = _u(x.size) // high, out.reshape(-1)
    columns, rows = wide // _u(8) * _u(8), high // _u(8) * _u(8)
    for first in range(_u(0), n, _u(_run)):
        last = min(n, first + _u(_run))
        for a in range(_u(0), rows, _u(8)):
            for b in range(_u(0), columns, _u(8)):
                lanes.add_block(
                    x, first * high + a, _u(1), high, y, first * wide + b, wide, last - first, total, a * wide + b, wide
                )
        for a in range(high):
            for b in range(_u(0) if a >= rows else columns, wide):
                for i in range(first, last):
                    total[a * wide + b] += x[i * high + a] * y[i * wide + b]


@numba.njit(cache=True, nogil=True)
def combine(x, factors, out):
    """Add combinations of vectors side by side to others; ``factors`` has a row for each of the former."""
    high, wide = _u(factors.shape[0]), _u(factors.shape[1])
    n, flat = _u(out.size) // wide, factors.reshape(-1)
    columns, length = wide // _u(8) * _u(8), n // _u(8) * _u(8)
    for i in range(_u(0), length, _u(8)):
        for b in range(_u(0), columns, _u(8)):
            lanes.add_block(x, i * high, high, _u(1), flat, b, wide, high, out, i * wide + b, wide)
    for i in range(n):
        for b in range(_u(0) if i >= length else columns, wide):
            for a in range(high):
                out[i * wide + b] += x[i * high + a] * flat[a * wide + b]
