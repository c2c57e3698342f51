"""CG for `precond.math.krylov.stretch`, compiled by numba; the mathematics are those of `precond.krylov.CG`."""

from __future__ import annotations

import numba

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
    real_inner,
    wish,
)  # fmt: skip
from precond.math.krylov.vector_kernels import forward, turn

ROWS, NUMBERS, REAL = 5, 6, True
X, R, P, Q, Z = range(5)
RHO, FLOOR, CURVATURE, FIRST, PLACE, NEXT = range(OWN, OWN + 6)
"""``<r, P r>``, what it must exceed, ``<p, A p>``, whether a step has been made, room for a norm and the next ``rho``;
``x, r`` are given, others zero."""


@numba.njit(cache=True, nogil=True, inline="always")  # one function is compiled sooner than two
def step(vectors, numbers, plain):
    """Go on to the end of an iteration, or to a wish; end where ``rho`` or the curvature does not allow a step."""
    x, r, p, q = vectors[X : X + 1], vectors[R : R + 1], vectors[P : P + 1], vectors[Q : Q + 1]
    rho, floor, curvature = numbers[RHO : RHO + 1], numbers[FLOOR : FLOOR + 1], numbers[CURVATURE : CURVATURE + 1]
    if numbers[STAGE] == 0:
        told = wish(APPLIED, R, Z, numbers, 1)
        if not plain:
            return told
    if numbers[STAGE] == 1:
        z = r if plain else vectors[Z : Z + 1]
        product = numbers[NEXT : NEXT + 1]
        product[0] = real_inner(r[0], z[0])
        if numbers[FIRST] == 0:
            copy(z[0], p[0])
            rho[0], floor[0] = product[0], numbers[EPS] ** 3 * abs(product[0])
        else:
            turn(p, z, rho, product, floor)
        return wish(PRODUCT, P, Q, numbers, 2)
    if not forward(x, r, p, q, rho, floor, False, curvature, numbers[PLACE : PLACE + 1]):
        numbers[STAGE] = 2
        return ENDED
    numbers[FIRST] = 1
    return reached(numbers, numbers[PLACE], 0)


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
