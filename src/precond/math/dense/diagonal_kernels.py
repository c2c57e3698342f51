"""The loop behind `precond.math.dense.diagonals`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

_compiled = numba.njit(cache=True, error_model="numpy", nogil=True, fastmath={"reassoc", "contract", "nsz"})


@_compiled
def weigh(s, y, absorbed, count, moves, changes, favour, scale, decay, memory, margin, floor, least):
    """Take note of the newest pairs of a memory, and write the diagonals where they are better; see `weigh` there."""
    m, n = s.shape[1], s.shape[2]
    for b in range(s.shape[0]):
        if not absorbed[b]:
            continue
        slot = (count[b] - 1) % m
        p, q, above, below = s[b, slot], y[b, slot], moves[b], changes[b]
        if count[b] > least:
            first, second = floor * above.max(), floor * below.max()
            ss = yy = spread = wide = 0.0
            for i in range(n):
                d = np.sqrt(above[i] + first) / np.sqrt(below[i] + second)
                u, v = p[i] * p[i], q[i] * q[i]
                ss += u
                yy += v
                spread += u / d
                wide += v * d
            told = np.log(ss) + np.log(yy) - np.log(spread) - np.log(wide)
            favour[b] = memory * favour[b] + (1 - memory) * (told if np.isfinite(told) else favour[b])
        for i in range(n):
            above[i] = decay * above[i] + p[i] * p[i]
            below[i] = decay * below[i] + q[i] * q[i]
        seen = 1 - memory ** max(0, count[b] - least)  # the mean began at zero
        if not (seen > 0 and favour[b] > margin * seen):
            continue
        first, second = floor * above.max(), floor * below.max()
        wide = 0.0
        for i in range(n):
            wide += q[i] * q[i] * np.sqrt(above[i] + first) / np.sqrt(below[i] + second)
        if not 0 < wide < np.inf:
            continue
        for i in range(n):
            scale[b, i] = np.sqrt(above[i] + first) / np.sqrt(below[i] + second) / wide
