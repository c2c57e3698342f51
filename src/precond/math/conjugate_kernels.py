"""The loops behind `precond.math.conjugate`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

from precond.math.sparse_kernels import one_times_csr
from precond.math.sweep_kernels import two_sweeps
from precond.math.vector_kernels import dots, forward, turn

# Rows of `vectors`: x, r, p, A p, P r. Rows of `numbers`: <r, P r>, its floor, <p, A p>, ||r||, whether to turn p.


@numba.njit(cache=True, nogil=True)
def step(indptr, indices, data, z, vectors, numbers):
    """Turn the direction to ``z = P r`` if it is to be turned, and step along it; return whether that was done."""
    x, r, p, q = vectors[0:1], vectors[1:2], vectors[2:3], vectors[3:4]
    rho, floor, curvature, norms = numbers[0], numbers[1], numbers[2], numbers[3]
    if numbers[4, 0] > 0:
        product = np.empty(1)
        dots(r, z, product)
        turn(p, z, rho, product, floor)
        numbers[4, 0] = 0
    one_times_csr(indptr, indices, data, p[0], q[0])
    if not forward(x, r, p, q, rho, floor, False, curvature, norms):
        return False
    numbers[4, 0] = 1
    return True


@numba.njit(cache=True, nogil=True)
def plain(indptr, indices, data, vectors, numbers, level, norms):
    """Make steps without a preconditioner until the residual is at most ``level``; return how many."""
    for done in range(norms.size):
        if not step(indptr, indices, data, vectors[1:2], vectors, numbers):
            return done
        norms[done] = numbers[3, 0]
        if not norms[done] > level:
            return done + 1
    return norms.size


@numba.njit(cache=True, nogil=True)
def swept(
    indptr, indices, data, lp, li, lx, lb, up, ui, ux, ub, s1, s2, s3, vectors, numbers, level, norms
):  # fmt: skip
    """Make steps preconditioned by two sweeps until the residual is at most ``level``; return how many."""
    z = vectors[4:5]
    for done in range(norms.size):
        if numbers[4, 0] > 0:
            two_sweeps(lp, li, lx, lb, up, ui, ux, ub, s1, s2, s3, vectors[1:2], z)
        if not step(indptr, indices, data, z, vectors, numbers):
            return done
        norms[done] = numbers[3, 0]
        if not norms[done] > level:
            return done + 1
    return norms.size
