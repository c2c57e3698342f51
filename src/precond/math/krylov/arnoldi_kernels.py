"""The loops behind `precond.math.krylov.arnoldi`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

_compiled = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
_slab = 512  # numbers of a vector that stay in the cache while all combinations take them


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
def orthogonalize(basis, j, rounding, h):
    """Make vector ``j + 1`` of a basis orthogonal to those before, and of length 1; write what that took to ``h``.

    What is returned is its norm before, and after; zero where only rounding was left, and the vector is zero then.
    """
    v, squares = basis[j + 1], 0.0
    for i in range(v.size):
        squares += v[i].real * v[i].real + v[i].imag * v[i].imag
    before = last = after = np.sqrt(squares)
    for k in range(j + 1):
        h[k] = 0
    for _ in range(2):
        whole = (j + 1) // 4 * 4
        for k in range(0, whole, 4):
            _without_four(v, basis, k, h)
        for k in range(whole, j + 1):
            u, total = basis[k], h.dtype.type(0)
            for i in range(v.size):
                total += np.conj(u[i]) * v[i]
            h[k] += total
            factor = v.dtype.type(total)
            for i in range(v.size):
                v[i] -= factor * u[i]
        squares = 0.0
        for i in range(v.size):
            squares += v[i].real * v[i].real + v[i].imag * v[i].imag
        after = np.sqrt(squares)
        if not after < 0.1 * last:
            break
        last = after
    if not after > rounding * before:
        v[:] = 0
        return before, 0.0
    scale = v.dtype.type(1 / after)
    for i in range(v.size):
        v[i] *= scale
    return before, after


@_compiled
def extend(basis, w, j, rounding, alive, h, before, after):
    """Do what `precond.math.krylov.arnoldi.extend` does."""
    for row in range(w.shape[0]):
        v, source = basis[row, j + 1], w[row]
        for i in range(v.size):
            v[i] = source[i]
        before[row], after[row] = orthogonalize(basis[row], j, rounding, h[row])
        if not alive[row]:
            after[row] = 0
            v[:] = 0
        alive[row] = after[row] > 0


@_compiled
def turn(h, after, tiny, j, c, s, triangle, right):
    """Turn column ``j`` of a Hessenberg matrix by the rotations so far and a new one; return the residual."""
    for k in range(j):
        here, below = h[k], h[k + 1]
        h[k] = np.conj(c[k]) * here + s[k] * below
        h[k + 1] = c[k] * below - s[k] * here
    pivot = np.hypot(abs(h[j]), after)
    if pivot <= tiny:  # a dependent direction
        c[j], s[j] = 0, 1
        pivot = 1.0
    else:
        c[j], s[j] = h[j] / pivot, after / pivot
    for k in range(j):  # a slice would take seconds to compile
        triangle[k, j] = h[k]
    triangle[j, j] = pivot
    right[j + 1] = -s[j] * right[j]
    right[j] = np.conj(c[j]) * right[j]
    return abs(right[j + 1])


@_compiled
def rotate(h, after, tiny, j, c, s, triangle, right, residual):
    """Turn column ``j`` of a batch of Hessenberg matrices, see `turn`."""
    for row in range(h.shape[0]):
        residual[row] = turn(h[row], after[row], tiny[row], j, c[row], s[row], triangle[row], right[row])


@_compiled
def substitute(triangle, y):
    """Replace each ``y`` by the solution of the leading triangular system, from the last unknown on."""
    for row in range(y.shape[0]):
        for k in range(y.shape[1] - 1, -1, -1):
            total = y[row, k]
            for i in range(k + 1, y.shape[1]):
                total -= triangle[row, k, i] * y[row, i]
            y[row, k] = total / triangle[row, k, k]


@_compiled
def combine(factors, vectors, out):
    """Do what `precond.math.krylov.arnoldi.combined` does with some of the vectors; add that to ``out``."""
    fours, whole = len(factors) // 4 * 4, len(vectors) // 4 * 4
    for start in range(0, out.shape[1], _slab):
        end = min(out.shape[1], start + _slab)
        for row in range(0, fours, 4):
            p, q, r, s = (
                out[row, start:end], out[row + 1, start:end], out[row + 2, start:end], out[row + 3, start:end]
            )  # fmt: skip
            for k in range(0, whole, 4):
                _four_sums(factors, row, vectors, k, start, end, p, q, r, s)
        for row in range(len(factors)):
            total = out[row, start:end]
            for k in range(0 if row >= fours else whole, whole, 4):
                a, b = vectors[k, start:end], vectors[k + 1, start:end]
                c, d = vectors[k + 2, start:end], vectors[k + 3, start:end]
                e, f, g, h = factors[row, k], factors[row, k + 1], factors[row, k + 2], factors[row, k + 3]
                for i in range(total.size):
                    total[i] += e * a[i] + f * b[i] + g * c[i] + h * d[i]
            for k in range(whole, len(vectors)):
                u, factor = vectors[k, start:end], factors[row, k]
                for i in range(total.size):
                    total[i] += factor * u[i]


@_compiled
def _four_sums(factors, row, vectors, k, start, end, p, q, r, s):
    """Add combinations of four vectors, from ``k`` on, to four sums; each number is loaded once for all of them."""
    a, b, c, d = vectors[k, start:end], vectors[k + 1, start:end], vectors[k + 2, start:end], vectors[k + 3, start:end]
    f, g, h, o = factors[row], factors[row + 1], factors[row + 2], factors[row + 3]
    pa, pb, pc, pd = f[k], f[k + 1], f[k + 2], f[k + 3]
    qa, qb, qc, qd = g[k], g[k + 1], g[k + 2], g[k + 3]
    ra, rb, rc, rd = h[k], h[k + 1], h[k + 2], h[k + 3]
    sa, sb, sc, sd = o[k], o[k + 1], o[k + 2], o[k + 3]
    for i in range(p.size):
        e, x, y, z = a[i], b[i], c[i], d[i]
        p[i] += pa * e + pb * x + pc * y + pd * z
        q[i] += qa * e + qb * x + qc * y + qd * z
        r[i] += ra * e + rb * x + rc * y + rd * z
        s[i] += sa * e + sb * x + sc * y + sd * z
