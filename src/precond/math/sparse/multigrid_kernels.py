"""The loops behind `precond.math.sparse.multigrid`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def down(lp, li, lx, lb, up, ui, ux, ub, inverse, pp, pi, px, b, x, coarse):
    """Sweep forth from zero, ``x = (D + L)^-1 b``, and write ``P^H (b - A x)`` to ``coarse``.

    After the sweep ``b - A x = -U x``, so that each entry of the matrix is read once. The entries beside the diagonal,
    ``lb`` and ``ub``, stand apart, as what they multiply in a sweep is still in a register.
    """
    n = inverse.size
    before = x.dtype.type(0)
    start = lp[0]
    for i in range(n):
        total, end = b[i], lp[i + 1]
        for t in range(start, end):
            total -= lx[t] * x[li[t]]
        before = (total - lb[i] * before) * inverse[i]
        x[i] = before
        start = end
    coarse[:] = 0
    start = up[0]
    for i in range(n):
        total = x.dtype.type(0)
        if i + 1 < n:
            total -= ub[i] * x[i + 1]
        end = up[i + 1]
        for t in range(start, end):
            total -= ux[t] * x[ui[t]]
        start = end
        for t in range(pp[i], pp[i + 1]):
            coarse[pi[t]] += np.conj(px[t]) * total


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def up(lp, li, lx, lb, up, ui, ux, ub, inverse, pp, pi, px, b, x, coarse):
    """Add ``P coarse`` to ``x``, then sweep back: ``x = x + (D + U)^-1 (b - A x)``."""
    n = inverse.size
    start = pp[0]
    for i in range(n):
        total, end = x[i], pp[i + 1]
        for t in range(start, end):
            total += px[t] * coarse[pi[t]]
        x[i] = total
        start = end
    before = x.dtype.type(0)
    for i in range(n - 1, -1, -1):
        total = b[i]
        if i > 0:
            total -= lb[i] * x[i - 1]
        for t in range(lp[i], lp[i + 1]):
            total -= lx[t] * x[li[t]]
        for t in range(up[i], up[i + 1]):
            total -= ux[t] * x[ui[t]]
        before = (total - ub[i] * before) * inverse[i]
        x[i] = before


@numba.njit(cache=True, nogil=True)
def triangles(indptr, indices, data, lp, li, lx, lb, up, ui, ux, ub, diagonal):
    """Split a CSR matrix with sorted columns: strict triangles, entries beside the diagonal, the diagonal."""
    low = high = 0
    for i in range(indptr.size - 1):
        lp[i], up[i] = low, high
        diagonal[i] = lb[i] = ub[i] = 0
        for t in range(indptr[i], indptr[i + 1]):
            j = indices[t]
            if j == i - 1:
                lb[i] = data[t]
            elif j == i + 1:
                ub[i] = data[t]
            elif j < i:
                li[low], lx[low] = j, data[t]
                low += 1
            elif j > i:
                ui[high], ux[high] = j, data[t]
                high += 1
            else:
                diagonal[i] = data[t]
    lp[indptr.size - 1], up[indptr.size - 1] = low, high


@numba.njit(cache=True, nogil=True)
def aggregate(indptr, indices, strong, member):
    """Write the aggregate of each unknown to ``member`` (-1: none), and return how many there are.

    Three passes (Vanek, Mandel, Brezina): neighbourhoods that touch no aggregate become one; what is left joins a
    neighbouring aggregate of the first pass; what is still left forms aggregates with its neighbours. Unknowns without
    strong neighbours stay outside.
    """
    n = indptr.size - 1
    count = 0
    member[:] = -1
    for i in range(n):
        alone, free = True, member[i] < 0
        for t in range(indptr[i], indptr[i + 1]):
            if strong[t] and indices[t] != i:
                alone = False
                free = free and member[indices[t]] < 0
        if free and not alone:
            member[i] = count
            for t in range(indptr[i], indptr[i + 1]):
                if strong[t]:
                    member[indices[t]] = count
            count += 1
    joined = np.full(n, -1, np.int64)
    for i in range(n):
        if member[i] < 0:
            for t in range(indptr[i], indptr[i + 1]):
                if strong[t] and member[indices[t]] >= 0:
                    joined[i] = member[indices[t]]
                    break
    for i in range(n):
        if joined[i] >= 0:
            member[i] = joined[i]
    for i in range(n):
        if member[i] < 0:
            alone = True
            for t in range(indptr[i], indptr[i + 1]):
                j = indices[t]
                if strong[t] and j != i and member[j] < 0:
                    member[j] = count
                    alone = False
            if not alone:
                member[i] = count
                count += 1
    return count


@numba.njit(cache=True, nogil=True)
def distances(indptr, indices, seen, queue, start):
    """Visit what is connected with ``start`` by breadth; return how many steps away the last is, which, and how many.

    ``seen`` holds the number of the last visit to each node, and is raised by one.
    """
    mark = seen[start] + 1
    seen[start] = mark
    queue[0] = start
    head, tail, depth = 0, 1, 0
    while head < tail:
        end = tail
        while head < end:
            i = queue[head]
            head += 1
            for t in range(indptr[i], indptr[i + 1]):
                j = indices[t]
                if seen[j] != mark:
                    seen[j] = mark
                    queue[tail] = j
                    tail += 1
        if head < tail:
            depth += 1
    return depth, queue[tail - 1], tail


@numba.njit(cache=True, nogil=True)
def relax(indptr, indices, data, x):
    """Sweep forth over ``A x = 0`` in place: Gauss-Seidel; rows without a diagonal entry are left out."""
    for i in range(x.size):
        total, pivot = x.dtype.type(0), x.dtype.type(0)
        for t in range(indptr[i], indptr[i + 1]):
            if indices[t] == i:
                pivot = data[t]
            else:
                total -= data[t] * x[indices[t]]
        if pivot != 0:
            x[i] = total / pivot
