"""The loops behind `precond.math.krylov.vectors`, compiled by numba; import that module, not this one."""

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
    """Do what `precond.math.krylov.vectors.forward` does, and return whether it was done."""
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
    """Do what `precond.math.krylov.vectors.turn` does."""
    for row in range(p.shape[0]):
        along, vector = p[row], z[row]
        beta = p.dtype.type(product[row] / rho[row] if rho[row] > floor[row] else 0.0)
        for i in range(along.size):
            along[i] = vector[i] + beta * along[i]
        rho[row] = product[row]


@_compiled
def inners(x, y, out, norms):
    """Write ``x^H y`` and ``||y||`` of each row."""
    for row in range(x.shape[0]):
        a, b, total, squares = x[row], y[row], out.dtype.type(0), 0.0
        for i in range(a.size):
            total += np.conj(a[i]) * b[i]
            squares += b[i].real * b[i].real + b[i].imag * b[i].imag
        out[row] = total
        norms[row] = np.sqrt(squares)


@_compiled
def subtract(r, alpha, q):
    """Take ``alpha q`` from ``r``."""
    for row in range(r.shape[0]):
        rest, factor, vector = r[row], r.dtype.type(alpha[row]), q[row]
        for i in range(rest.size):
            rest[i] -= factor * vector[i]


@_compiled
def move(x, r, alpha, p, omega, h, t, shadow, out, norms):
    """Add ``alpha p + omega h`` to ``x``, take ``omega t`` from ``r``; write ``shadow^H r`` and ``||r||``."""
    for row in range(x.shape[0]):
        to, rest, first, second, image, fixed = x[row], r[row], p[row], h[row], t[row], shadow[row]
        a, w = x.dtype.type(alpha[row]), x.dtype.type(omega[row])
        total, squares = out.dtype.type(0), 0.0
        for i in range(to.size):
            to[i] += a * first[i] + w * second[i]
            left = rest[i] - w * image[i]
            rest[i] = left
            total += np.conj(fixed[i]) * left
            squares += left.real * left.real + left.imag * left.imag
        out[row] = total
        norms[row] = np.sqrt(squares)


@_compiled
def redirect(p, r, beta, omega, v):
    """Replace ``p`` by ``r + beta (p - omega v)``."""
    for row in range(p.shape[0]):
        along, rest, image = p[row], r[row], v[row]
        b, w = p.dtype.type(beta[row]), p.dtype.type(omega[row])
        if b == 0:  # begins again, whatever the direction was
            for i in range(along.size):
                along[i] = rest[i]
            continue
        for i in range(along.size):
            along[i] = rest[i] + b * (along[i] - w * image[i])
