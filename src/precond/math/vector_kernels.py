"""The loops behind `precond.math.vectors`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba
import numpy as np

_loose = {"reassoc", "contract", "nsz"}  # sums may be reordered; infinities and NaN stay what they are
_compiled = numba.njit(cache=True, nogil=True, fastmath=_loose)


@_compiled
def dots(x, y, out):
    """Write the real part of ``x^H y`` of each row."""
    for row in range(x.shape[0]):
        a, b, total = x[row], y[row], 0.0
        for i in range(a.size):
            total += a[i].real * b[i].real + a[i].imag * b[i].imag
        out[row] = total


@_compiled
def forward(x, r, p, q, rho, floor, force, curvature, norms):
    """Do what `precond.math.vectors.forward` does, and return whether it was done."""
    dots(p, q, curvature)
    if not force:
        for row in range(x.shape[0]):
            if not (rho[row] > floor[row] and curvature[row] > 0):
                return False
    for row in range(x.shape[0]):
        to, rest, along, image = x[row], r[row], p[row], q[row]
        alpha = x.dtype.type(rho[row] / curvature[row] if rho[row] > floor[row] else 0.0)
        total = 0.0
        for i in range(to.size):
            to[i] += alpha * along[i]
            left = rest[i] - alpha * image[i]
            rest[i] = left
            total += left.real * left.real + left.imag * left.imag
        norms[row] = np.sqrt(total)
    return True


@_compiled
def turn(p, z, rho, product, floor):
    """Do what `precond.math.vectors.turn` does."""
    for row in range(p.shape[0]):
        along, vector = p[row], z[row]
        beta = p.dtype.type(product[row] / rho[row] if rho[row] > floor[row] else 0.0)
        for i in range(along.size):
            along[i] = vector[i] + beta * along[i]
        rho[row] = product[row]
