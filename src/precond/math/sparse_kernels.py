"""The loop behind `precond.math.sparse`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def rows_times_csr(indptr, indices, data, x, out):
    """Write the product of a CSR matrix with each row of ``x`` to the rows of ``out``."""
    for row in range(x.shape[0]):
        v, y = x[row], out[row]
        start = indptr[0]
        for i in range(y.size):
            total = out.dtype.type(0)
            end = indptr[i + 1]
            for t in range(start, end):
                total += data[t] * v[indices[t]]
            y[i] = total
            start = end
