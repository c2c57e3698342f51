"""The loops behind `precond.math.minimum_residual`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

_loose = {"reassoc", "contract", "nsz"}  # sums may be reordered; infinities and NaN stay what they are
_compiled = numba.njit(cache=True, nogil=True, fastmath=_loose)


@_compiled
def lanczos(z, q, v, v_old, gamma, gamma_old, delta):
    """Do what `precond.math.minimum_residual.lanczos` does."""
    for row in range(v.shape[0]):
        a, b, now, before, total = z[row], q[row], v[row], v_old[row], 0.0
        for i in range(a.size):
            total += a[i].real * b[i].real + a[i].imag * b[i].imag
        f = 1.0 / gamma[row] if gamma[row] != 0 else 0.0
        delta[row] = total * f * f
        scale, along = v.dtype.type(f), v.dtype.type(delta[row] * f)
        back = v.dtype.type(gamma[row] / gamma_old[row] if gamma_old[row] != 0 else 0.0)
        for i in range(now.size):
            before[i] = scale * b[i] - along * now[i] - back * before[i]


@_compiled
def advance(x, r, w_old, w, z, v, factors, norms):
    """Do what `precond.math.minimum_residual.advance` does."""
    for row in range(x.shape[0]):
        to, rest, oldest, older, vector, image = x[row], r[row], w_old[row], w[row], z[row], v[row]
        one, two, three = x.dtype.type(factors[0, row]), x.dtype.type(factors[1, row]), x.dtype.type(factors[2, row])
        step, keep = x.dtype.type(factors[3, row]), x.dtype.type(factors[4, row])
        turn, total = x.dtype.type(factors[5, row]), 0.0
        for i in range(to.size):
            direction = one * vector[i] - two * older[i] - three * oldest[i]
            oldest[i] = direction
            to[i] += step * direction
            left = keep * rest[i] + turn * image[i]
            rest[i] = left
            total += left.real * left.real + left.imag * left.imag
        norms[row] = np.sqrt(total)


@numba.njit(cache=True, nogil=True)
def rotate(delta, gamma, gamma_next, table, factors, eps):
    """Do what `precond.math.minimum_residual.Rotations.apply` does; return what it tells, as bits."""
    small = 10 * np.sqrt(eps)
    singular = behind = less = False
    exhausted_all = True
    for j in range(delta.size):
        c, c_old, s, s_old = table[0, j], table[1, j], table[2, j], table[3, j]
        eta, size, d, g = table[4, j], abs(table[4, j]), delta[j], gamma[j]
        exhausted = gamma_next[j] <= eps * (abs(d) + g) or size <= table[6, j]
        if exhausted:
            gamma_next[j] = 0.0
        else:
            exhausted_all = False
        after = gamma_next[j]
        alpha_0 = c * d - c_old * s * g
        alpha_1 = np.hypot(alpha_0, after)
        alpha_2 = s * d + c_old * c * g
        alpha_3 = s_old * g
        slope = np.hypot(alpha_0, c * after)  # times |eta|, the norm of A r
        inverse = 1.0 / alpha_1 if alpha_1 != 0 else 0.0
        cosine, sine = alpha_0 * inverse, after * inverse
        if alpha_1 > table[5, j]:
            table[5, j] = alpha_1
        singular |= alpha_1 <= 10 * eps * table[5, j] and size > table[6, j]
        behind |= slope > 100 * table[7, j] and size > 0.99 * table[8, j]
        table[9, j] = 0.0
        if slope <= small * table[5, j] and slope < table[7, j]:
            table[7, j], table[8, j], table[9, j] = slope, size, 1.0
            less = True
        factors[0, j] = inverse / g if g != 0 else 0.0
        factors[1, j], factors[2, j] = alpha_2 * inverse, alpha_3 * inverse
        factors[3, j], factors[4, j] = cosine * eta, sine * sine
        eta = -sine * eta
        factors[5, j] = cosine * eta / after if after != 0 else 0.0
        table[0, j], table[1, j], table[2, j], table[3, j], table[4, j] = cosine, c, sine, s, eta
    return (1 if singular or behind else 0) + (2 if less else 0) + (4 if exhausted_all else 0)
