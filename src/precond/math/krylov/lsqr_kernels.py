"""LSQR for `precond.math.krylov.stretch`, compiled by numba; the mathematics are those of `precond.krylov.LSQR`."""

from __future__ import annotations

import numba
import numpy as np

from precond.math.krylov.bidiagonal_kernels import (
    ALPHA,
    BEGUN,
    BETA,
    CONDITION,
    DIAGONAL,
    INDEFINITE,
    LENGTH,
    MATRIX,
    MORE,
    NORMAL,
    OWN,
    SOLVED,
    WHY,
    WIDTH,
    P,
    V,
    W,
    X,
    bidiagonal,
    over,
)  # fmt: skip
from precond.math.krylov.stretch_kernels import ENDED, STAGE, copy, reached

ROWS, NUMBERS, REAL = 7, MORE - OWN + 4, True
VARIANCES = 6
PHIBAR, RHOBAR, SPREAD, ESTIMATES = range(MORE, MORE + 4)
"""``||r||``, the last diagonal entry, the sum of the variances, and (given) whether to keep each of them."""


@numba.njit(cache=True, nogil=True)
def step(vectors, numbers, plain):
    """Go on to the end of an iteration, or to a wish; what ends first is the start."""
    if numbers[STAGE] == 1 and numbers[WHY] > 0:
        return ENDED
    told = bidiagonal(vectors, numbers, plain)
    if told != 0:
        return told
    n, alpha, beta = int(numbers[WIDTH]), numbers[ALPHA], numbers[BETA]
    x, w, v = vectors[X, :n], vectors[W, :n], vectors[P if plain else V, :n]
    if numbers[BEGUN] == 0:
        copy(v, w)
        numbers[BEGUN], numbers[PHIBAR], numbers[RHOBAR] = 1, beta, alpha
        numbers[NORMAL] *= beta
        return reached(numbers, beta, 1)
    rho = np.hypot(numbers[RHOBAR], beta)
    c, s = over(numbers[RHOBAR], rho), over(beta, rho)
    theta, rhobar = s * alpha, -c * alpha
    phi, phibar = c * numbers[PHIBAR], s * numbers[PHIBAR]
    scale = over(1.0, rho)
    if numbers[ESTIMATES] > 0:
        _added(vectors[VARIANCES, :n], w, scale)
    squares, spread = _followed(x, w, v, phi * scale, -theta * scale)
    numbers[LENGTH], numbers[SPREAD] = np.sqrt(squares), numbers[SPREAD] + spread * scale * scale
    numbers[MATRIX] = np.hypot(numbers[MATRIX], np.hypot(numbers[DIAGONAL], beta))
    numbers[CONDITION] = numbers[MATRIX] * np.sqrt(numbers[SPREAD])
    numbers[NORMAL] = phibar * abs(rhobar) * over(numbers[NORMAL], alpha)
    numbers[PHIBAR], numbers[RHOBAR] = phibar, rhobar
    if numbers[WHY] == INDEFINITE:
        return ENDED
    if rhobar == 0 or phibar == 0:
        numbers[WHY] = SOLVED
    return reached(numbers, phibar, 1)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _followed(x, w, v, along, back):
    """Add ``along w`` to ``x`` and replace ``w`` by ``v + back w``; return ``||x||^2`` and ``||w||^2`` of before."""
    f, g, squares, spread = x.dtype.type(along), x.dtype.type(back), 0.0, 0.0
    for i in range(x.size):
        direction = w[i]
        to = x[i] + f * direction
        x[i] = to
        w[i] = v[i] + g * direction
        squares += to.real * to.real + to.imag * to.imag
        spread += direction.real * direction.real + direction.imag * direction.imag
    return squares, spread


@numba.njit(cache=True, nogil=True)
def _added(variances, w, scale):
    """Add the squares of ``scale w``."""
    for i in range(w.size):
        variances[i] += scale * scale * (w[i].real * w[i].real + w[i].imag * w[i].imag)
