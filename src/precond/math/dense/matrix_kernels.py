"""The loop behind `precond.math.dense.matrix`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

_loose = {"reassoc", "contract", "nsz"}
_tile = 8  # entries of a cache line, so that mirrored tiles fit however long the rows are


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def examine(a, limit):
    """Return the sum of ``|a_ij|^2`` and the asymmetry, see `precond.math.dense.matrix.Facts`, reading the matrix once.

    The second is infinite for a matrix that is not square; beyond ``limit`` it is not searched any further.
    """
    m, n = a.shape
    squares = 0.0
    roots = np.empty(min(m, n))
    for i in range(min(m, n)):
        roots[i] = np.sqrt(abs(a[i, i]))
    worst = 0.0 if m == n else np.inf
    for i0 in range(0, m, _tile):
        i1 = min(m, i0 + _tile)
        for i in range(i0, i1):
            row = a[i]
            total = 0.0
            for j in range(n):
                total += row[j].real * row[j].real + row[j].imag * row[j].imag
            squares += total
        if worst > limit:
            continue
        for j0 in range(0, i1, _tile):
            different = 0
            for i in range(i0, i1):
                for j in range(j0, min(j0 + _tile, i + 1)):
                    different += a[i, j] != np.conj(a[j, i])
            if different == 0:
                continue
            for i in range(i0, i1):
                for j in range(j0, min(j0 + _tile, i + 1)):
                    gap = abs(a[i, j] - np.conj(a[j, i]))
                    if gap > 0:
                        scale = max(min(abs(a[i, j]), abs(a[j, i])), roots[i] * roots[j])
                        worst = max(worst, gap / scale if scale > 0 else np.inf)
    return squares, worst
