"""Rounds of coordinate descent on linear models with a penalty of each variable, compiled by numba.

Import this module where it is needed. Signatures are explicit and compiled code is kept on disk.
"""

from __future__ import annotations

import math

import numba

from precond.math.scalar_kernels import prox

_penalty = "i8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[::1]"


@numba.njit("f8(f8, f8, b1)", cache=True, nogil=True, inline="always")
def slope(z, b, logistic):
    """Return the derivative of the loss of one row."""
    if not logistic:
        return z - b
    margin = b * z
    if margin > 0.0:
        small = math.exp(-margin)
        return -b * small / (1.0 + small)
    return -b / (1.0 + math.exp(margin))


@numba.njit(
    f"f8(i8[::1], i8[::1], i8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8, f8, b1, {_penalty})",
    cache=True, nogil=True,
)  # fmt: skip
def sparse_round(
    order, indptr, indices, data, x, z, b, curvatures, scale, square, logistic,
    kind, weight, shape, ridge, lower, upper,
):  # fmt: skip
    """Move ``x``, and the products ``z`` with it, along each variable of ``order``; the matrix is in columns."""
    # returns the norm of the moves, each times its curvature
    moved = 0.0
    for j in order:
        total = 0.0
        for t in range(indptr[j], indptr[j + 1]):
            i = indices[t]
            total += data[t] * slope(z[i], b[i], logistic)
        h = curvatures[j]
        gradient = scale * total + square * x[j]
        new = prox(x[j] - gradient / h, h, kind[j], weight[j], shape[j], ridge[j], lower[j], upper[j])
        step = new - x[j]
        if step != 0.0:
            x[j] = new
            moved += (h * step) ** 2
            for t in range(indptr[j], indptr[j + 1]):
                z[indices[t]] += step * data[t]
    return math.sqrt(moved)


@numba.njit(
    f"f8(i8[::1], f8[:, ::1], f8[::1], f8[::1], f8[::1], f8[::1], f8, f8, b1, {_penalty})",
    cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"},
)  # fmt: skip
def dense_round(order, columns, x, z, b, curvatures, scale, square, logistic, kind, weight, shape, ridge, lower, upper):
    """Do the same with a dense matrix, whose columns are the rows of ``columns``."""
    moved = 0.0
    m = z.size
    for j in order:
        column = columns[j]
        total = 0.0
        if logistic:
            for i in range(m):
                total += column[i] * slope(z[i], b[i], True)
        else:
            for i in range(m):
                total += column[i] * (z[i] - b[i])
        h = curvatures[j]
        gradient = scale * total + square * x[j]
        new = prox(x[j] - gradient / h, h, kind[j], weight[j], shape[j], ridge[j], lower[j], upper[j])
        step = new - x[j]
        if step != 0.0:
            x[j] = new
            moved += (h * step) ** 2
            for i in range(m):
                z[i] += step * column[i]
    return math.sqrt(moved)
