"""LSMR for `precond.math.krylov.stretch`, compiled by numba; the mathematics are those of `precond.krylov.LSMR`."""

from __future__ import annotations

import numba
import numpy as np

from precond.math.krylov.bidiagonal_kernels import (
    ALPHA,
    BEGUN,
    BETA,
    CONDITION,
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
from precond.math.krylov.stretch_kernels import ENDED, EPS, STAGE, copy, length, reached

ROWS, NUMBERS, REAL = 8, MORE - OWN + 18, True
HBAR, G = 6, 7
(
    ALPHABAR, ZETABAR, START, RHO, RHOBAR, CBAR, SBAR, ZETA, SQUARED, LARGEST, SMALLEST,
    BETADD, BETAD, RHOD, TAU, THETA, STEPS, OWN_NORM,
) = range(MORE, MORE + 18)  # fmt: skip
"""Scalars by the names of the paper; ``|zetabar|`` at the start, squares of the entries of ``B``, the extreme diagonal
entries of the second triangle, and ``|zetabar|`` now."""


@numba.njit(cache=True, nogil=True)
def step(vectors, numbers, plain):
    """Go on to the end of an iteration, or to a wish; what ends first is the start."""
    if numbers[STAGE] == 1 and numbers[WHY] > 0:
        return ENDED
    told = bidiagonal(vectors, numbers, plain)
    if told != 0:
        return told
    n, alpha, beta = int(numbers[WIDTH]), numbers[ALPHA], numbers[BETA]
    v, p, h, g = vectors[P if plain else V, :n], vectors[P, :n], vectors[W, :n], vectors[G, :n]
    if numbers[BEGUN] == 0:
        copy(v, h)
        numbers[BEGUN], numbers[ALPHABAR], numbers[ZETABAR], numbers[START] = 1, alpha, alpha * beta, alpha * beta
        numbers[RHO], numbers[RHOBAR], numbers[CBAR] = 1, 1, 1
        numbers[SQUARED], numbers[SMALLEST], numbers[BETADD], numbers[RHOD] = alpha**2, np.inf, beta, 1
        numbers[NORMAL] *= beta
        if not plain:
            _mixed(g, 0.0, p, alpha * beta)
        return reached(numbers, beta, 1)
    rho_old, rhobar_old = numbers[RHO], numbers[RHOBAR]
    rho = np.hypot(numbers[ALPHABAR], beta)
    c, s = over(numbers[ALPHABAR], rho), over(beta, rho)
    theta, numbers[ALPHABAR] = s * alpha, c * alpha
    thetabar, reduced = numbers[SBAR] * rho, numbers[CBAR] * rho
    rhobar = np.hypot(reduced, theta)
    cbar, sbar = over(reduced, rhobar), over(theta, rhobar)
    zeta_old, zeta = numbers[ZETA], cbar * numbers[ZETABAR]
    numbers[ZETABAR] = -sbar * numbers[ZETABAR]
    squares = _followed(vectors[X, :n], vectors[HBAR, :n], h, v, -over(thetabar * rho, rho_old * rhobar_old),
                        over(zeta, rho * rhobar), -over(theta, rho))  # fmt: skip
    numbers[RHO], numbers[RHOBAR], numbers[CBAR], numbers[SBAR], numbers[ZETA] = rho, rhobar, cbar, sbar, zeta
    numbers[LENGTH], numbers[OWN_NORM] = np.sqrt(squares), abs(numbers[ZETABAR])
    if plain:
        numbers[NORMAL] = numbers[OWN_NORM]
    else:
        _mixed(g, sbar * sbar, p, cbar * numbers[ZETABAR])
        numbers[NORMAL] = length(g)

    numbers[MATRIX] = np.sqrt(numbers[SQUARED] + beta**2)
    numbers[SQUARED] = numbers[MATRIX] ** 2 + alpha**2
    numbers[LARGEST] = max(numbers[LARGEST], rhobar_old)
    if numbers[STEPS] > 0:
        numbers[SMALLEST] = min(numbers[SMALLEST], rhobar_old)
    numbers[STEPS] += 1
    numbers[CONDITION] = over(max(numbers[LARGEST], abs(reduced)), min(numbers[SMALLEST], abs(reduced)))
    residual = _residual(numbers, c, s, thetabar, rhobar, zeta_old, zeta)
    if numbers[WHY] == INDEFINITE:
        return ENDED
    if numbers[ALPHABAR] == 0 or numbers[OWN_NORM] <= numbers[EPS] ** 2 * numbers[START]:
        numbers[WHY] = SOLVED
    return reached(numbers, residual, 1)


@numba.njit(cache=True, nogil=True)
def _residual(numbers, c, s, thetabar, rhobar, zeta_old, zeta):
    """Return the paper's estimate of ``||r||`` (section 5.1)."""
    betahat, numbers[BETADD] = c * numbers[BETADD], -s * numbers[BETADD]
    rho_tilde = np.hypot(numbers[RHOD], thetabar)
    c_tilde, s_tilde = over(numbers[RHOD], rho_tilde), over(thetabar, rho_tilde)
    tau = over(zeta_old - numbers[THETA] * numbers[TAU], rho_tilde)
    numbers[THETA], numbers[RHOD] = s_tilde * rhobar, c_tilde * rhobar
    numbers[BETAD] = -s_tilde * numbers[BETAD] + c_tilde * betahat
    numbers[TAU] = tau
    return np.hypot(numbers[BETAD] - over(zeta - numbers[THETA] * tau, numbers[RHOD]), numbers[BETADD])


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _followed(x, hbar, h, v, back, along, turn):
    """Replace ``hbar`` by ``h + back hbar``, add ``along hbar`` to ``x``, replace ``h`` by ``v + turn h``."""
    a, f, g, squares = x.dtype.type(back), x.dtype.type(along), x.dtype.type(turn), 0.0
    for i in range(x.size):
        direction = h[i] + a * hbar[i]
        hbar[i] = direction
        to = x[i] + f * direction
        x[i] = to
        h[i] = v[i] + g * h[i]
        squares += to.real * to.real + to.imag * to.imag
    return squares


@numba.njit(cache=True, nogil=True)
def _mixed(g, keep, p, add):
    """Replace ``g`` by ``keep g + add p``."""
    a, f = g.dtype.type(keep), g.dtype.type(add)
    for i in range(g.size):
        g[i] = a * g[i] + f * p[i]
