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
def redirect(p, beta, z):
    """Replace ``p`` by ``z + beta p``."""
    for row in range(p.shape[0]):
        to, factor, vector = p[row], p.dtype.type(beta[row]), z[row]
        for i in range(to.size):
            to[i] = vector[i] + factor * to[i]


@_compiled
def advance(x, r, alpha, p, q, out):
    """Add ``alpha p`` to ``x``, take ``alpha q`` from ``r``, and write the norms of ``r``."""
    for row in range(x.shape[0]):
        to, rest, step, forward, image = x[row], r[row], x.dtype.type(alpha[row]), p[row], q[row]
        total = 0.0
        for i in range(to.size):
            to[i] += step * forward[i]
            left = rest[i] - step * image[i]
            rest[i] = left
            total += left.real * left.real + left.imag * left.imag
        out[row] = np.sqrt(total)
