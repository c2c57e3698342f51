"""Coordinate descent on a dense quadratic plus a sum of functions of one variable, compiled by numba.

Import this module where it is needed. Signatures are explicit and compiled code is kept on disk, so that a first call
costs little.
"""

from __future__ import annotations

import numba


@numba.njit("f8(f8, f8, i8, f8, f8, f8, f8, f8)", cache=True, nogil=True)
def prox(z, h, kind, weight, shape, ridge, lower, upper):
    """Return the minimizer of ``p(t) + ridge/2 t^2 + h/2 (t - z)^2`` on ``[lower, upper]``; see `Scalars` for ``p``."""
    total = h + ridge
    z = h * z / total
    step = 1.0 / total
    size = abs(z)
    t = size
    if kind == 1:
        t = max(size - step * weight, 0.0)
    elif kind == 2:
        end = shape * weight
        t = min(max(size - step * weight, 0.0), weight)
        best = step * weight * t + 0.5 * (t - size) ** 2
        far = max(size, end)
        flat = 0.5 * weight * weight * (shape + 1.0)
        cost = step * flat + 0.5 * (far - size) ** 2
        if cost < best:
            t, best = far, cost
        narrow = shape - 1.0 - step
        if narrow > 0.0:
            middle = min(max(((shape - 1.0) * size - end * step) / narrow, weight), end)
            value = (2.0 * end * middle - middle * middle - weight * weight) / (2.0 * (shape - 1.0))
            cost = step * value + 0.5 * (middle - size) ** 2
            if cost < best:
                t = middle
    elif kind == 3:
        end = shape * weight
        near = 0.0
        if step < shape:
            near = min(max(size - step * weight, 0.0) / (1.0 - step / shape), end)
        far = max(size, end)
        cost = step * (weight * near - near * near / (2.0 * shape)) + 0.5 * (near - size) ** 2
        t = near
        if step * 0.5 * shape * weight * weight + 0.5 * (far - size) ** 2 < cost:
            t = far
    if z < 0.0:
        t = -t
    return min(max(t, lower), upper)


@numba.njit(
    "f8(f8[:, ::1], f8[::1], f8[::1], i8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], i8, f8)",
    cache=True, nogil=True,
)  # fmt: skip
def sweep(hessian, slope, x, kind, weight, shape, ridge, lower, upper, sweeps, tolerance):
    """Move ``x`` by at most ``sweeps`` rounds of coordinate descent, in place; ``slope`` is the gradient."""
    # returns the norm of the moves of the last round, each times its curvature
    n = x.size
    largest = 0.0
    for j in range(n):
        largest = max(largest, hessian[j, j])
    least = 1e-12 * largest if largest > 0.0 else 1.0
    moved = 0.0
    for _ in range(sweeps):
        moved = 0.0
        for j in range(n):
            h = max(hessian[j, j], least)
            new = prox(x[j] - slope[j] / h, h, kind[j], weight[j], shape[j], ridge[j], lower[j], upper[j])
            step = new - x[j]
            if step != 0.0:
                x[j] = new
                for i in range(n):
                    slope[i] += step * hessian[j, i]
                moved += (h * step) ** 2
        if moved <= tolerance * tolerance:
            break
    return moved**0.5
