"""The loops behind `precond.math.sparse.complete`, compiled by numba; import that module, not this one."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True)
def extents(indptr, indices, data, rows, columns):
    """Raise ``rows`` and ``columns`` to the largest size of an entry in each."""
    for i in range(rows.size):
        largest = rows[i]
        for t in range(indptr[i], indptr[i + 1]):
            size, j = abs(data[t]), indices[t]
            largest = max(largest, size)
            columns[j] = max(columns[j], size)
        rows[i] = largest


@numba.njit(cache=True, nogil=True)
def rows_of_columns(indptr, indices, data, pointers, columns, values, diagonal):
    """Write the rows of a matrix given by its columns, without the diagonal, which stands apart.

    ``pointers``, length ``n + 1``, holds zeros at first.
    """
    n = pointers.size - 1
    for j in range(n):
        for t in range(indptr[j], indptr[j + 1]):
            i = indices[t]
            if i == j:
                diagonal[j] = data[t]
            elif i + 2 <= n:
                pointers[i + 2] += 1
    for i in range(2, n + 1):
        pointers[i] += pointers[i - 1]
    for j in range(n):
        for t in range(indptr[j], indptr[j + 1]):
            i = indices[t]
            if i != j:
                place = pointers[i + 1]
                columns[place], values[place] = j, data[t]
                pointers[i + 1] = place + 1
