"""The loops behind `precond.math.arnoldi`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

_compiled = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})


@_compiled
def _without_four(v, basis, k, h):
    """Take from ``v`` its projections on four vectors, add the coefficients to ``h``; each vector is read twice."""
    a, b, c, d = basis[k], basis[k + 1], basis[k + 2], basis[k + 3]
    p = q = r = s = h.dtype.type(0)
    for i in range(v.size):
        p += np.conj(a[i]) * v[i]
        q += np.conj(b[i]) * v[i]
        r += np.conj(c[i]) * v[i]
        s += np.conj(d[i]) * v[i]
    h[k] += p
    h[k + 1] += q
    h[k + 2] += r
    h[k + 3] += s
    e, f, g, o = v.dtype.type(p), v.dtype.type(q), v.dtype.type(r), v.dtype.type(s)
    for i in range(v.size):
        v[i] -= e * a[i] + f * b[i] + g * c[i] + o * d[i]


@_compiled
def extend(basis, w, j, rounding, alive, h, before, after):
    """Do what `precond.math.arnoldi.extend` does."""
    for row in range(w.shape[0]):
        v, source = basis[row, j + 1], w[row]
        squares = 0.0
        for i in range(v.size):
            v[i] = source[i]
            squares += v[i].real * v[i].real + v[i].imag * v[i].imag
        before[row] = np.sqrt(squares)
        last = before[row]
        for k in range(j + 1):
            h[row, k] = 0
        for _ in range(2):
            whole = (j + 1) // 4 * 4
            for k in range(0, whole, 4):
                _without_four(v, basis[row], k, h[row])
            for k in range(whole, j + 1):
                u, total = basis[row, k], h.dtype.type(0)
                for i in range(v.size):
                    total += np.conj(u[i]) * v[i]
                h[row, k] += total
                factor = v.dtype.type(total)
                for i in range(v.size):
                    v[i] -= factor * u[i]
            squares = 0.0
            for i in range(v.size):
                squares += v[i].real * v[i].real + v[i].imag * v[i].imag
            after[row] = np.sqrt(squares)
            if not after[row] < 0.1 * last:
                break
            last = after[row]
        alive[row] = alive[row] and after[row] > rounding * before[row]
        if not alive[row]:
            after[row] = 0
            v[:] = 0
        else:
            scale = v.dtype.type(1 / after[row])
            for i in range(v.size):
                v[i] *= scale


@_compiled
def rotate(h, after, tiny, j, c, s, triangle, right, residual):
    """Turn column ``j`` of Hessenberg matrices by the rotations so far and a new one, and the right-hand sides too."""
    for row in range(h.shape[0]):
        for k in range(j):
            here, below = h[row, k], h[row, k + 1]
            h[row, k] = np.conj(c[row, k]) * here + s[row, k] * below
            h[row, k + 1] = c[row, k] * below - s[row, k] * here
        pivot = np.hypot(abs(h[row, j]), after[row])
        if pivot <= tiny[row]:  # a dependent direction
            c[row, j], s[row, j] = 0, 1
            pivot = 1.0
        else:
            c[row, j], s[row, j] = h[row, j] / pivot, after[row] / pivot
        for k in range(j):  # a slice would take seconds to compile
            triangle[row, k, j] = h[row, k]
        triangle[row, j, j] = pivot
        right[row, j + 1] = -s[row, j] * right[row, j]
        right[row, j] = np.conj(c[row, j]) * right[row, j]
        residual[row] = abs(right[row, j + 1])


@_compiled
def substitute(triangle, y):
    """Replace each ``y`` by the solution of the leading triangular system, from the last unknown on."""
    for row in range(y.shape[0]):
        for k in range(y.shape[1] - 1, -1, -1):
            total = y[row, k]
            for i in range(k + 1, y.shape[1]):
                total -= triangle[row, k, i] * y[row, i]
            y[row, k] = total / triangle[row, k, k]
