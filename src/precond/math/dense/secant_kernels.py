"""The loops behind `precond.math.dense.secants`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

_compiled = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})


@_compiled
def _dot(a, b):
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@_compiled
def _largest(v):
    """Return the largest absolute entry, or one that is not finite."""
    largest = 0.0
    for i in range(v.size):
        size = abs(v[i])
        if not np.isfinite(size):
            return np.inf
        largest = max(largest, size)
    return largest


@_compiled
def _append(triangle, known, m):
    """Make room for a column behind ``known`` of a triangle that lies at the end of its rows and columns."""
    first = max(m - known, 1)
    for i in range(first, m):
        for j in range(i, m):
            triangle[i - 1, j - 1] = triangle[i, j]
    triangle[m - 1, m - 1] = 1


@_compiled
def absorb(s_new, y_new, s, y, triangle, scale, count, curvature):
    """Put the pairs that show curvature in place of the oldest, scaled to ``s'y = 1``; see `LBFGSState`."""
    m = s.shape[1]
    for b in range(s.shape[0]):
        long, steep = _largest(s_new[b]), _largest(y_new[b])
        if not (0 < long < np.inf and 0 < steep < np.inf):
            continue
        sy = ss = yy = 0.0
        for i in range(s_new.shape[1]):
            p, q = s_new[b, i] / long, y_new[b, i] / steep
            sy += p * q
            ss += p * p
            yy += q * q
        if not sy > curvature * np.sqrt(ss) * np.sqrt(yy):
            continue
        slot, known = count[b] % m, min(count[b], m)
        root = np.sqrt(sy) * np.sqrt(long) * np.sqrt(steep)
        for i in range(s_new.shape[1]):
            s[b, slot, i] = s_new[b, i] / root
            y[b, slot, i] = y_new[b, i] / root
        _append(triangle[b], known, m)
        count[b] += 1
        for age in range(min(known, m - 1)):
            other = (count[b] - 2 - age) % m
            triangle[b, m - 2 - age, m - 1] = _dot(s[b, other], y[b, slot])
        scale[b, :] = long / steep * (sy / yy)


@_compiled
def two_loops(v, s, y, scale, count, out):
    """Write the product of the inverse Hessian of L-BFGS with each row of ``v`` to ``out``."""
    m, n = s.shape[1], s.shape[2]
    shares = np.empty(m)
    for b in range(v.shape[0]):
        known = min(count[b], m)
        q = out[b]
        for i in range(n):
            q[i] = v[b, i]
        for age in range(known):
            slot = (count[b] - 1 - age) % m
            share = _dot(s[b, slot], q)
            shares[slot] = share
            factor = q.dtype.type(share)
            other = y[b, slot]
            for i in range(n):
                q[i] -= factor * other[i]
        if scale.shape[1] == 1:
            for i in range(n):
                q[i] *= scale[b, 0]
        else:
            for i in range(n):
                q[i] *= scale[b, i]
        for age in range(known - 1, -1, -1):
            slot = (count[b] - 1 - age) % m
            factor = q.dtype.type(shares[slot] - _dot(y[b, slot], q))
            other = s[b, slot]
            for i in range(n):
                q[i] += factor * other[i]
