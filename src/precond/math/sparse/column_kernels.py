"""Loops over the columns of a sparse matrix, compiled by numba; import this module where they are needed.

Signatures are explicit and compiled code is kept on disk, so that a first call costs little.
"""

from __future__ import annotations

import numba

_sparse = "i8[::1], i8[::1], f8[::1], i8[::1], f8[::1], f8[::1]"


@numba.njit(f"void({_sparse})", cache=True, nogil=True)
def partial(indptr, indices, data, block, y, out):
    """Write ``A_b' y`` to ``out``; the matrix is in columns."""
    for i in range(block.size):
        total = 0.0
        j = block[i]
        for t in range(indptr[j], indptr[j + 1]):
            total += data[t] * y[indices[t]]
        out[i] = total


@numba.njit(f"void({_sparse})", cache=True, nogil=True)
def combine(indptr, indices, data, block, d, out):
    """Add ``A_b d`` to ``out``; the matrix is in columns."""
    for i in range(block.size):
        step = d[i]
        if step != 0.0:
            j = block[i]
            for t in range(indptr[j], indptr[j + 1]):
                out[indices[t]] += data[t] * step
