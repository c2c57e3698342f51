"""Golub-Kahan bidiagonalization for `precond.math.krylov.stretch`, compiled by numba: what LSQR and LSMR share.

Vectors of both spaces are rows of one array, as long as the longer ones; what lies behind the end of a vector is never
read.
"""

from __future__ import annotations

import numba
import numpy as np

from precond.math.krylov.stretch_kernels import (
    ADJOINT,
    APPLIED,
    BOTH,
    EPS,
    OWN,
    PRODUCT,
    STAGE,
    length,
    real_inner,
    wish,
)  # fmt: skip

X, U, V, P, IMAGE, W = range(6)
"""Rows: the solution, vectors of the bidiagonalization, and a direction; ``x`` and ``u = b - A x`` are given."""
HEIGHT, WIDTH, AT_HAND, WHY, BEGUN, NORMAL, LENGTH = range(OWN, OWN + 7)
MATRIX, CONDITION, ALPHA, BETA, DIAGONAL, MORE = range(OWN + 7, OWN + 13)
"""Rows and columns of the matrix, whether one pass over it makes two products (these are given), why it ended, whether
it has begun, ``||A^H r||``, ``||x||``, the norm and condition of what is known of ``A``, entries of the bidiagonal
matrix; from ``MORE`` on each method has its own."""
INDEFINITE, SOLVED = 1, 2
_loose = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, nogil=True)
def bidiagonal(vectors, numbers, plain):
    """Go on to a wish, or to the next ``alpha, beta, u, v, p``, which is told by zero."""
    m, n, stage = int(numbers[HEIGHT]), int(numbers[WIDTH]), int(numbers[STAGE])
    u, p = vectors[U, :m], vectors[P, :n]
    if stage == 0:
        numbers[BETA] = _normalized(u, length(u))
        return wish(ADJOINT, U, IMAGE, numbers, 3)
    if stage == 1:
        if numbers[AT_HAND] > 0:
            return wish(BOTH, P if plain else V, IMAGE, numbers, 5)
        return wish(PRODUCT, P if plain else V, IMAGE, numbers, 2)
    if stage == 2:
        _subtracted(u, vectors[IMAGE, :m], numbers[ALPHA])
        numbers[BETA] = _normalized(u, length(u))
        return wish(ADJOINT, U, IMAGE, numbers, 3)
    if stage == 3 or stage == 5:
        image = vectors[IMAGE, :n]
        if stage == 5:
            size = _normalized(u, length(u))
            _normalized(image, size)
            numbers[BETA] = numbers[ALPHA] * size
        _subtracted(p, image, numbers[BETA] if numbers[ALPHA] > 0 else 0.0)
        told = wish(APPLIED, P, V, numbers, 4)
        if not plain:
            return told
    v = p if plain else vectors[V, :n]
    numbers[DIAGONAL], numbers[ALPHA] = numbers[ALPHA], length(p)
    numbers[NORMAL] = numbers[ALPHA]
    if not plain:
        product = real_inner(v, p)
        if not product > 0:
            size = numbers[NORMAL] * length(v)
            if product < -10 * numbers[EPS] * size or (size > 0 and product == 0):
                numbers[WHY] = INDEFINITE
        numbers[ALPHA] = np.sqrt(np.maximum(product, 0.0))
        _normalized(v, numbers[ALPHA])
    _normalized(p, numbers[ALPHA])
    numbers[STAGE] = 1
    return 0


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def _normalized(u, size):
    """Divide ``u`` by ``size``, by zero to zero; return it."""
    factor = u.dtype.type(1.0 / size if size != 0 else 0.0)
    for i in range(u.size):
        u[i] *= factor
    return size


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def _subtracted(u, image, factor):
    """Replace ``u`` by ``image - factor u``."""
    f = u.dtype.type(factor)
    for i in range(u.size):
        u[i] = image[i] - f * u[i]


@numba.njit(cache=True, nogil=True)
def over(a, b):
    """Return ``a / b``, and zero where ``b`` is zero."""
    return a / b if b != 0 else 0.0
