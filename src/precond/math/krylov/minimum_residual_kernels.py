"""The loops behind `precond.math.krylov.minimum_residual`, and MINRES in stretches, compiled by numba."""

from __future__ import annotations

import numba
import numpy as np

from precond.math.krylov.stretch_kernels import (
    APPLIED,
    ENDED,
    EPS,
    LEVEL,
    NORM,
    OWN,
    PRODUCT,
    STAGE,
    STEPPED,
    copy,
    granted,
    length,
    reached,
    real_inner,
    wish,
)  # fmt: skip

_loose = {"reassoc", "contract", "nsz"}  # sums may be reordered; infinities and NaN stay what they are
_compiled = numba.njit(cache=True, nogil=True, fastmath=_loose)


@_compiled
def lanczos(z, q, v, v_old, gamma, gamma_old, delta):
    """Do what `precond.math.krylov.minimum_residual.lanczos` does."""
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
    """Do what `precond.math.krylov.minimum_residual.advance` does."""
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
    """Do what `precond.math.krylov.minimum_residual.Rotations.apply` does; return what it tells, as bits."""
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


ROWS, NUMBERS, REAL = 10, 24, True
X, R, V, W, Z, Q, BEST = 0, 1, 2, 4, 6, 8, 9
"""Rows of vectors; of ``v``, ``w`` and ``z`` there are two each, which take turns."""
WHY, TURN, KEPT, GAMMA, GAMMA_OLD, GAMMA_NEXT, DELTA, PLACE, FACTORS, TABLE = *range(OWN, OWN + 9), OWN + 14
"""Why it ended, which rows are the last, whether a best iterate is kept, the scalars of `lanczos`, room for a norm,
and what `rotate` keeps; ``x, r`` are given, others zero."""
INDEFINITE, STUCK, SOLVED = 1, 2, 3


@numba.njit(cache=True, nogil=True, inline="always")  # one function is compiled sooner than two
def step(vectors, numbers, plain):
    """Go on to the end of an iteration, or to a wish; the mathematics are those of `precond.krylov.MINRES`."""
    last = int(numbers[TURN])
    if numbers[STAGE] == 0:
        copy(vectors[R], vectors[V])
        told = wish(APPLIED, V, Z, numbers, 1)
        if not plain:
            return told
    table, factors = numbers[TABLE : TABLE + 10].reshape(10, 1), numbers[FACTORS : FACTORS + 6].reshape(6, 1)
    gamma, gamma_old = numbers[GAMMA : GAMMA + 1], numbers[GAMMA_OLD : GAMMA_OLD + 1]
    gamma_next, delta = numbers[GAMMA_NEXT : GAMMA_NEXT + 1], numbers[DELTA : DELTA + 1]
    if numbers[STAGE] == 1:
        gamma[0] = _dual_norm(vectors[V if plain else Z], vectors[V], numbers)
        gamma_old[0], table[0, 0], table[1, 0] = 1, 1, 1
        table[4, 0], table[6, 0], table[7, 0], table[8, 0] = gamma[0], numbers[EPS] * gamma[0], np.inf, gamma[0]
        numbers[STAGE] = 2
    z = V + last if plain else Z + last
    if numbers[STAGE] == 2:
        if numbers[WHY] > 0:
            return ENDED
        return wish(PRODUCT, z, Q, numbers, 3)

    new = 1 - last
    if numbers[STAGE] == 3:
        lanczos(
            vectors[z : z + 1], vectors[Q : Q + 1], vectors[V + last : V + last + 1], vectors[V + new : V + new + 1],
            gamma, gamma_old, delta,
        )  # fmt: skip
        told = wish(APPLIED, V + new, Z + new, numbers, 4)
        if not plain:
            return told
    gamma_next[0] = _dual_norm(vectors[V + new if plain else Z + new], vectors[V + new], numbers)
    indefinite = numbers[WHY] > 0
    told = rotate(delta, gamma, gamma_next, table, factors, numbers[EPS])
    if told & 1:
        if numbers[KEPT] > 0:
            copy(vectors[BEST], vectors[X])
        numbers[WHY] = STUCK
        return ENDED
    if told & 2:
        copy(vectors[X], vectors[BEST])
        numbers[KEPT] = 1
    advance(
        vectors[X : X + 1], vectors[R : R + 1], vectors[W + new : W + new + 1], vectors[W + last : W + last + 1],
        vectors[z : z + 1], vectors[V + new : V + new + 1], factors, numbers[PLACE : PLACE + 1],
    )  # fmt: skip
    gamma_old[0], gamma[0], numbers[TURN] = gamma[0], gamma_next[0], new
    if indefinite:
        return ENDED
    if told & 4:
        numbers[WHY] = SOLVED
    return reached(numbers, numbers[PLACE], 2)


@numba.njit(cache=True, nogil=True)
def _dual_norm(z, v, numbers):
    """Return ``sqrt(<z, v>)``; note where it is negative by more than rounding."""
    product = real_inner(z, v)
    if not product > 0:
        size = length(z) * length(v)
        if product < -10 * numbers[EPS] * size or (size > 0 and product == 0):
            numbers[WHY] = INDEFINITE
    return np.sqrt(np.maximum(product, 0.0))


@numba.njit(cache=True, nogil=True)
def run(indptr, indices, data, sweeps, vectors, numbers, plain, norms, done):
    """Make iterations; see `precond.math.krylov.stretch_kernels`."""
    while done < norms.size:
        told = step(vectors, numbers, plain)
        if told == ENDED:
            return done, told
        if told == STEPPED:
            norms[done] = numbers[NORM]
            done += 1
            if not norms[done - 1] > numbers[LEVEL]:
                return done, told
        elif not granted(told, indptr, indices, data, sweeps, vectors):
            return done, told
    return done, STEPPED
