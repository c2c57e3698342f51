"""What the compiled iterations of one system share; imported by their loops, and by `precond.math.krylov.stretch`.

An iteration is a function ``step(vectors, numbers, plain)`` that goes on until it needs a product or the
preconditioner, and then returns a wish: which row of ``vectors`` to map into which (and, for ``BOTH``, to make the next
vector of a bidiagonalization on the way, see `precond.math.krylov.bidiagonal`). Whoever called grants it and calls
again. So the same loop serves matrices that are compiled, and those that only Python can multiply with. (A function
that takes another would be compiled anew in every process; therefore each iteration has a loop of its own around
`granted`, ``run(..., norms, done)``, which writes the norms of residuals from place ``done`` on until one is small
enough, and returns how many there are then and what the last step told: a wish only where Python must grant it.)

The first numbers are the same for all: the stage to go on at, the norm of the residual, products and applications
wished for so far, the norm at which somebody wants to look, and rounding of the vectors.
"""

from __future__ import annotations

import numba
import numpy as np

from precond.math.sparse.product_kernels import one_times_csr
from precond.math.sparse.sweep_kernels import two_sweeps

ENDED, STEPPED, PRODUCT, APPLIED, ADJOINT, BOTH = range(6)
STAGE, NORM, PRODUCTS, APPLICATIONS, LEVEL, EPS, OWN = range(7)
"""Places in the numbers; from ``OWN`` on they belong to the iteration."""


@numba.njit(inline="always")
def wish(kind, source, target, numbers, stage):
    """Return the wish to map row ``source`` into row ``target``, and to go on at ``stage`` then."""
    numbers[STAGE] = stage
    numbers[APPLICATIONS if kind == APPLIED else PRODUCTS] += 2 if kind == BOTH else 1
    return kind + 8 * (source + 2**20 * target)


@numba.njit(inline="always")
def reached(numbers, norm, stage):
    """Note the norm of the residual after an iteration, and where the next begins."""
    numbers[STAGE], numbers[NORM] = stage, norm
    return STEPPED


@numba.njit(inline="always")
def granted(told, indptr, indices, data, sweeps, vectors):
    """Grant a wish with a CSR matrix and two sweeps; return false where there are none, ``None``, for it."""
    source, target = told >> 3 & (2**20 - 1), told >> 23
    if told & 7 == PRODUCT:
        one_times_csr(indptr, indices, data, vectors[source], vectors[target])
        return True
    if sweeps is not None:
        two_sweeps(*sweeps, vectors[source : source + 1], vectors[target : target + 1])
        return True
    return False


@numba.njit(cache=True, nogil=True)
def copy(x, y):
    """Write ``x`` to ``y``; an assignment of arrays would also compile the message of its error, for seconds."""
    for i in range(x.size):
        y[i] = x[i]


_loose = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, nogil=True, fastmath=_loose)
def real_inner(x, y):
    """Return the real part of ``x^H y``, in double precision."""
    total = 0.0
    for i in range(x.size):
        total += x[i].real * y[i].real + x[i].imag * y[i].imag
    return total


@numba.njit(cache=True, nogil=True)
def length(x):
    """Return ``||x||``, scaled where squares overflow or vanish."""
    squares = real_inner(x, x)
    if 1e-280 < squares < 1e280:
        return np.sqrt(squares)
    largest = 0.0
    for i in range(x.size):
        largest = max(largest, abs(x[i].real), abs(x[i].imag))
    if not 0 < largest < np.inf:
        return np.sqrt(squares)
    squares = 0.0
    for i in range(x.size):
        real, imaginary = x[i].real / largest, x[i].imag / largest
        squares += real * real + imaginary * imaginary
    return largest * np.sqrt(squares)
