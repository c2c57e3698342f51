"""A cycle of the Arnoldi process, as `precond.math.krylov.cycle` has it, compiled by numba."""

from __future__ import annotations

import numba
import numpy as np

from precond.math.krylov.arnoldi_kernels import orthogonalize, turn
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
    granted,
    reached,
    wish,
)  # fmt: skip

REAL = False
KEPT, SIZE, DONE, LEFT, ROOM, STRIDE, BROKEN, SMALL = range(OWN, OWN + 8)
"""Vectors before the first of the cycle, its longest length and that so far; whether the preconditioner comes second;
the row of the first vector that it makes (or the product, where it comes second), and how far the next is from it;
whether the last step found no direction. What follows is the small problem: cosines, sines, the rotated right-hand
side, the triangle, and columns of coefficients."""


@numba.njit(cache=True, nogil=True, inline="always")  # one function is compiled sooner than two
def step(vectors, numbers, plain):
    """Go on to the end of a step, or to a wish; end where the cycle is full, or the last step found no direction."""
    k, m, j = int(numbers[KEPT].real), int(numbers[SIZE].real), int(numbers[DONE].real)
    left, here = numbers[LEFT].real > 0, k + j
    beside = int(numbers[ROOM].real) + j * int(numbers[STRIDE].real)
    if numbers[STAGE].real == 0:
        if j == m or numbers[BROKEN].real > 0:
            return ENDED
        if plain or left:
            return wish(PRODUCT, here, here + 1 if plain else beside, numbers, 3 if plain else 2)
        return wish(APPLIED, here, beside, numbers, 1)
    if numbers[STAGE].real == 1:
        return wish(PRODUCT, beside, here + 1, numbers, 3)
    if numbers[STAGE].real == 2:
        return wish(APPLIED, beside, here + 1, numbers, 3)

    cosines, sines = numbers[SMALL : SMALL + m], numbers[SMALL + m : SMALL + 2 * m]
    at = SMALL + 2 * m
    right, at = numbers[at : at + m + 1], at + m + 1
    triangle, at = numbers[at : at + m * m].reshape(m, m), at + m * m + j * (k + m + 1)
    column = numbers[at : at + k + m + 1]
    eps = numbers[EPS].real
    before, after = orthogonalize(vectors, here, eps, column)
    column[here + 1] = after
    for i in range(here + 2, k + m + 1):  # of the cycle before
        column[i] = 0
    h = np.empty(j + 2, numbers.dtype)
    for i in range(j + 2):
        h[i] = column[k + i]
    residual = turn(h, after, eps * before, j, cosines, sines, triangle, right)
    numbers[DONE], numbers[BROKEN] = j + 1, 1 if after == 0 else 0
    return reached(numbers, residual, 0)


@numba.njit(cache=True, nogil=True)
def run(indptr, indices, data, sweeps, vectors, numbers, plain, norms, done):
    """Make steps; see `precond.math.krylov.stretch_kernels`."""
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


@numba.njit(cache=True, nogil=True)
def minimizer(numbers):
    """Return ``y`` of the steps so far."""
    m, j = int(numbers[SIZE].real), int(numbers[DONE].real)
    at = SMALL + 3 * m + 1
    y, triangle = numbers[SMALL + 2 * m : SMALL + 2 * m + j].copy(), numbers[at : at + m * m].reshape(m, m)
    for row in range(j - 1, -1, -1):
        total = y[row]
        for i in range(row + 1, j):
            total -= triangle[row, i] * y[i]
        y[row] = total / triangle[row, row]
    return y
