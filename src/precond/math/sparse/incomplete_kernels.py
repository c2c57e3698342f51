"""The loops behind `precond.math.sparse.incomplete`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def incomplete_cholesky(indptr, indices, data, shift, smallest, begin, end):
    """Overwrite rows of the lower triangle in ``data`` by its IC(0) factor; return the row that failed, or -1."""
    for i in range(begin, end):
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
def threshold_cholesky(indptr, indices, data, shift, smallest, drop, extra, lp, li, lx):
    """Factor column by column, from the rows of the upper triangle (its conjugates are the columns of the lower one).

    Writes the columns of ``L``, each beginning with its diagonal entry and sorted; returns the column that failed, or
    -1. Columns before are found by lists: ``link`` joins those whose next entry stands in the same row.
    """
    n = indptr.size - 1
    work = np.zeros(n, data.dtype)
    inside = np.zeros(n, np.bool_)
    touched, sizes = np.empty(n, np.int64), np.empty(n)
    link, head = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    place = np.zeros(n, np.int64)
    k = 0
    for j in range(n):
        lp[j] = k
        count, size, pivot = 0, 0.0, shift
        for t in range(indptr[j], indptr[j + 1]):
            i = indices[t]
            size += abs(data[t]) ** 2
            if i == j:
                pivot += data[t].real
            else:
                work[i] = np.conj(data[t])
                inside[i] = True
                touched[count] = i
                count += 1
        stored = count
        column = head[j]
        while column >= 0:
            following = link[column]
            t = place[column]
            factor = np.conj(lx[t])
            pivot -= abs(factor) ** 2
            for u in range(t + 1, lp[column + 1]):
                i = li[u]
                if not inside[i]:
                    inside[i] = True
                    work[i] = 0
                    touched[count] = i
                    count += 1
                work[i] -= lx[u] * factor
            if t + 1 < lp[column + 1]:
                place[column] = t + 1
                link[column] = head[li[t + 1]]
                head[li[t + 1]] = column
            column = following
        if not pivot > smallest:  # also catches NaN
            return j
        root = np.sqrt(pivot)
        li[k], lx[k] = j, root
        k += 1
        bound = drop * np.sqrt(size)
        kept = 0
        for t in range(count):
            i = touched[t]
            inside[i] = False
            if abs(work[i]) > bound:
                touched[kept] = i
                kept += 1
        if kept > stored + extra:
            for t in range(kept):
                sizes[t] = -abs(work[touched[t]])
            _sort(sizes, touched, kept)
            kept = stored + extra
        for t in range(kept):
            sizes[t] = touched[t]
        _sort(sizes, touched, kept)
        for t in range(kept):
            li[k], lx[k] = touched[t], work[touched[t]] / root
            k += 1
        lp[j + 1] = k
        if kept:
            place[j] = lp[j] + 1
            link[j] = head[touched[0]]
            head[touched[0]] = j
    return -1


@numba.njit(cache=True, nogil=True)
def _sort(keys, values, count):
    """Sort numbers with their keys by these (D. L. Shell, 1959): compiles in a tenth of the time of NumPy's."""
    gap = 1
    while 3 * gap < count:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, count):
            key, value, j = keys[i], values[i], i
            while j >= gap and keys[j - gap] > key:
                keys[j], values[j] = keys[j - gap], values[j - gap]
                j -= gap
            keys[j], values[j] = key, value
        gap //= 3


_least_share = 0.1  # of a pivot, that compensation must leave; else that row gets none


@numba.njit(cache=True, nogil=True)
def scaled_rows(indptr, indices, data, out, scale, diagonal):
    """Write rows of unit largest entry, the scaling, and where the diagonal is; return whether that could be done.

    It cannot where columns of a row are not in ascending order, or the diagonal entry of a row is not stored.
    """
    for row in range(indptr.size - 1):
        largest, before, place = 0.0, -1, -1
        for t in range(indptr[row], indptr[row + 1]):
            column = np.int64(indices[t])
            if column <= before:
                return False
            before = column
            if column == row:
                place = t
            size = abs(data[t])
            if not size <= largest:  # also takes NaN
                largest = size
        if place < 0:
            return False
        diagonal[row] = place
        scale[row] = data.dtype.type(1.0 / largest) if largest != 0 else data.dtype.type(1)
        for t in range(indptr[row], indptr[row + 1]):
            out[t] = data[t] * scale[row]
    return True


@numba.njit(cache=True, nogil=True)
def incomplete_lu(indptr, indices, data, diagonal, smallest, compensation, begin, end):
    """Overwrite rows in ``data`` by the ILU(0) factors (unit lower, upper); return the row that failed, or -1."""
    n = indptr.size - 1
    place = np.full(n, -1, np.int64)  # of each column in the current row
    for i in range(begin, end):
        first, last = indptr[i], indptr[i + 1]
        largest = 0.0
        for t in range(first, last):
            place[indices[t]] = t
            largest = max(largest, abs(data[t]))
        dropped = data.dtype.type(0)
        for t in range(first, diagonal[i]):
            k = indices[t]
            data[t] /= data[diagonal[k]]
            for u in range(diagonal[k] + 1, indptr[k + 1]):
                if place[indices[u]] >= 0:
                    data[place[indices[u]]] -= data[t] * data[u]
                else:
                    dropped -= data[t] * data[u]
        if compensation != 0:
            pivot = data[diagonal[i]]
            moved = pivot + data.dtype.type(compensation) * dropped
            if (moved * np.conj(pivot)).real >= _least_share * (pivot * np.conj(pivot)).real:
                data[diagonal[i]] = moved
        for t in range(first, last):
            place[indices[t]] = -1
        if not abs(data[diagonal[i]]) > smallest * largest:  # also catches NaN
            return i
    return -1


@numba.njit(cache=True, nogil=True)
def scaled_lower(indptr, indices, data, scale, p, i, x):
    """Copy the lower triangle of ``S A S`` from sorted rows, a place for the diagonal entry last; return its size."""
    k = 0
    for row in range(indptr.size - 1):
        p[row] = k
        diagonal = x.dtype.type(0)
        for t in range(indptr[row], indptr[row + 1]):
            j = indices[t]
            if j < row:
                i[k], x[k] = j, data[t] * (scale[row] * scale[j])
                k += 1
            elif j == row:
                diagonal = data[t] * (scale[row] * scale[row])
        i[k], x[k] = row, diagonal
        k += 1
    p[indptr.size - 1] = k
    return k
