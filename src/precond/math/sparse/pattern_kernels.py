"""The loop behind `precond.math.sparse.patterns`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def greedy_colors(indptr, indices, indptr_t, indices_t, colors):
    """Give each column the first color that no column has with which it shares a row; ``colors`` starts at -1."""
    n = colors.size
    mark = np.full(n + 1, -1, np.int64)
    for j in range(n):
        for t in range(indptr_t[j], indptr_t[j + 1]):
            i = indices_t[t]
            for s in range(indptr[i], indptr[i + 1]):
                k = colors[indices[s]]
                if k >= 0:
                    mark[k] = j
        c = 0
        while mark[c] == j:
            c += 1
        colors[j] = c
