"""BiCGStab in stretches, compiled by numba; the mathematics are those of `precond.krylov.BiCGStab`."""

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
    reached,
    wish,
)  # fmt: skip
from precond.math.krylov.vector_kernels import move, redirect

ROWS, NUMBERS, REAL = 8, 10, False
X, R, P, SHADOW, P_HAT, V, H_HAT, T = range(8)
RHO, SIZE, SHADOW_SIZE, VANISHED, FRESH, ALPHA, FAILED, OMEGA, RATIO, PLACE = range(OWN, OWN + 10)
"""``<shadow, r>``, ``||r||``, ``||shadow||`` (zero where the process begins), what ``||r||`` must exceed, whether the
process has just begun, its first step, whether it broke down for good, its second step, the factor of the next
direction, the next ``rho``; ``x``, ``r`` and, of numbers, ``||r||`` are given."""


@numba.njit(cache=True, nogil=True, inline="always")  # one function is compiled sooner than two
def step(vectors, numbers, plain):
    """Go on to the end of an iteration, or to a wish; end where the residual has vanished, or the process is broken.

    Where the residual in the middle of an iteration is small enough for whoever looks, the iteration ends there.
    """
    x, r, p, shadow = vectors[X : X + 1], vectors[R : R + 1], vectors[P : P + 1], vectors[SHADOW : SHADOW + 1]
    v, t = vectors[V : V + 1], vectors[T : T + 1]
    p_hat, h_hat = (P, R) if plain else (P_HAT, H_HAT)
    eps, zero = numbers[EPS].real, numbers.dtype.type(0)
    if numbers[STAGE].real == 0:
        if numbers[FAILED].real > 0:
            return ENDED
        if numbers[SHADOW_SIZE].real == 0:
            copy(r[0], p[0])
            copy(r[0], shadow[0])
            size = _met(r[0], r[0], zero)[1]
            numbers[RHO], numbers[SIZE], numbers[SHADOW_SIZE], numbers[FRESH] = size * size, size, size, 1
            if numbers[VANISHED].real == 0:
                numbers[VANISHED] = eps**2 * size
        if not numbers[SIZE].real > numbers[VANISHED].real:
            return ENDED
        told = wish(APPLIED, P, P_HAT, numbers, 1)
        if not plain:
            return told
    if numbers[STAGE].real == 1:
        return wish(PRODUCT, p_hat, V, numbers, 2)
    if numbers[STAGE].real == 2:
        curvature, images = _met(shadow[0], v[0], zero)
        broken = not abs(curvature) > eps**2 * numbers[SHADOW_SIZE].real * images
        numbers[ALPHA] = zero if broken else numbers[RHO] / curvature
        size = _halved(r[0], numbers[ALPHA], v[0])
        if size <= numbers[LEVEL].real < np.inf and not broken:
            _along(x[0], numbers[ALPHA], vectors[p_hat])
            numbers[SIZE], numbers[SHADOW_SIZE] = size, 0  # whoever goes on begins again
            return reached(numbers, size, 0)
        told = wish(APPLIED, R, H_HAT, numbers, 3)
        if not plain:
            return told
    if numbers[STAGE].real == 3:
        return wish(PRODUCT, h_hat, T, numbers, 4)

    alpha, before = numbers[ALPHA], numbers[RHO]
    product, images = _met(r[0], t[0], zero)
    omega = zero if images == 0 else np.conj(product) / (images * images)
    numbers[OMEGA] = omega
    rho, norms = numbers[PLACE : PLACE + 1], np.empty(1)
    move(x, r, numbers[ALPHA : ALPHA + 1], vectors[p_hat : p_hat + 1], numbers[OMEGA : OMEGA + 1],
         vectors[h_hat : h_hat + 1], t, shadow, rho, norms)  # fmt: skip
    size = norms[0]
    ratio = zero if before == 0 or omega == 0 else (rho[0] / before) * (alpha / omega)
    broken = alpha == 0 or not abs(rho[0]) > eps * numbers[SHADOW_SIZE].real * size or omega == 0
    broken = (broken or not np.isfinite(ratio)) and size > numbers[VANISHED].real
    if broken and numbers[FRESH].real > 0 and omega == 0:
        numbers[FAILED] = 1
        return reached(numbers, size, 0)
    numbers[RHO], numbers[SIZE], numbers[FRESH], numbers[RATIO] = rho[0], size, 0, ratio
    if broken:
        numbers[SHADOW_SIZE] = 0
    else:
        redirect(p, r, numbers[RATIO : RATIO + 1], numbers[OMEGA : OMEGA + 1], v)
    return reached(numbers, size, 0)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _met(x, y, zero):
    """Return ``x^H y`` in the type of ``zero``, and ``||y||``."""
    total, squares = zero, 0.0
    for i in range(x.size):
        total += np.conj(x[i]) * y[i]
        squares += y[i].real * y[i].real + y[i].imag * y[i].imag
    return total, np.sqrt(squares)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _halved(r, alpha, v):
    """Take ``alpha v`` from ``r``; return its norm."""
    factor, squares = r.dtype.type(alpha), 0.0
    for i in range(r.size):
        left = r[i] - factor * v[i]
        r[i] = left
        squares += left.real * left.real + left.imag * left.imag
    return np.sqrt(squares)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _along(x, alpha, p):
    """Add ``alpha p`` to ``x``."""
    factor = x.dtype.type(alpha)
    for i in range(x.size):
        x[i] += factor * p[i]


@numba.njit(cache=True, nogil=True)
def run(indptr, indices, data, sweeps, vectors, numbers, plain, norms, done):
    """Make iterations; see `precond.math.krylov.stretch_kernels`."""
    while done < norms.size:
        told = step(vectors, numbers, plain)
        if told == ENDED:
            return done, told
        if told == STEPPED:
            norms[done] = numbers[NORM].real
            done += 1
            if not norms[done - 1] > numbers[LEVEL].real:
                return done, told
        elif not granted(told, indptr, indices, data, sweeps, vectors):
            return done, told
    return done, STEPPED
