"""Incomplete factorizations: IC(0), thresholded Cholesky, ILU(0).

All work on CSR arrays with sorted indices. Numba is imported on first use, so that importing the package stays cheap;
the compiled code is cached on disk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
import scipy.sparse

from precond.math.machine.threads import share
from precond.math.sparse.sweeps import Array, Triangle


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.sparse import incomplete_kernels

    return incomplete_kernels


def incomplete_cholesky(
    indptr: Array, indices: Array, data: Array, shift: float, smallest: float, ends: Sequence[int] = (0,)
) -> tuple[Array, int]:
    """Factor ``A + shift I ~ L L^H`` on the pattern of the lower triangle of ``A``: IC(0).

    ``l_ik = (a_ik - sum_{j<k} l_ij conj(l_kj)) / l_kk`` and ``l_ii = sqrt(a_ii + shift - sum_j |l_ij|^2)``, the sums
    over the entries that both rows have.

    Args:
        indptr: Row pointers of the lower triangle, length ``n + 1``.
        indices: Its columns, sorted; every row ends with its diagonal entry.
        data: Its values.
        shift: Added to each diagonal entry.
        smallest: Pivots must be larger than this.
        ends: Zero, and where domains end: rows that do not depend on those of other domains.

    Returns:
        The values of ``L`` on the same pattern, and the row of the first pivot that is too small (-1 when none is).
    """
    factor, kernel = data.copy(), _kernels().incomplete_cholesky
    failed = _by_domains(lambda begin, end: kernel(indptr, indices, factor, shift, smallest, begin, end), indptr, ends)
    return factor, failed


def _by_domains(rows: Callable[[int, int], int], indptr: Array, ends: Sequence[int]) -> int:
    """Factor the rows of domains, which threads share, then all others; return the first row that failed, or -1."""
    failures: list[int] = []

    def some(first: int, last: int) -> None:
        failures.append(int(rows(ends[first], ends[last])))

    if len(ends) > 1:
        share(some, len(ends) - 1)
    failures.append(int(rows(ends[-1], indptr.size - 1)))
    return min((row for row in failures if row >= 0), default=-1)


def threshold_cholesky(
    matrix: scipy.sparse.csr_array, shift: float, smallest: float, drop: float, extra: int
) -> tuple[Triangle, int]:
    """Factor ``A + shift I ~ L L^H`` with fill where it is large: ICT.

    Of column ``j`` entries of at most ``drop`` times the norm of the column of ``A`` (its part from the diagonal down)
    are dropped, then all but the largest: as many as ``A`` has there, and ``extra`` more.

    Args:
        matrix: Hermitian, CSR with sorted columns.
        shift: Added to each diagonal entry.
        smallest: Pivots must be larger than this.
        drop: Threshold, relative.
        extra: Additional entries of a column.

    Returns:
        The rows of ``L``, each ending with its diagonal entry, and the column of the first pivot that is too small (-1
        when none is).
    """
    upper = scipy.sparse.csr_array(scipy.sparse.triu(matrix))
    n = matrix.shape[0]
    room = upper.nnz + n * (1 + min(extra, n))
    lp, li, lx = np.zeros(n + 1, np.int64), np.empty(room, np.int32), np.empty(room, matrix.dtype)
    failed = int(
        _kernels().threshold_cholesky(upper.indptr, upper.indices, upper.data, shift, smallest, drop, extra, lp, li, lx)
    )
    if failed >= 0:
        return (lp, li[:0], lx[:0]), failed
    size = int(lp[-1])
    lower = scipy.sparse.csc_array((lx[:size], li[:size], lp), shape=(n, n)).tocsr()  # sorted, the diagonal last
    return (lower.indptr, lower.indices, lower.data), -1


def scaled_rows(matrix: scipy.sparse.csr_array) -> tuple[Array, Array, Array] | None:
    """Scale the rows of a sorted matrix that stores its diagonal to unit largest entry.

    Args:
        matrix: The matrix, square.

    Returns:
        The values, the scaling, and where each row keeps its diagonal entry; ``None`` where columns are not in
        ascending order, or a diagonal entry is not stored.
    """
    n = matrix.shape[0]
    data, scale, diagonal = np.empty_like(matrix.data), np.empty(n, matrix.dtype), np.empty(n, np.int64)
    done = _kernels().scaled_rows(matrix.indptr, matrix.indices, matrix.data, data, scale, diagonal)
    return (data, scale, diagonal) if done else None


def incomplete_lu(
    indptr: Array,
    indices: Array,
    data: Array,
    diagonal: Array,
    smallest: float,
    compensation: float = 0.0,
    ends: Sequence[int] = (0,),
) -> tuple[Array, int]:
    """Factor ``A ~ L U`` on the pattern of ``A``: ILU(0), with unit diagonal in ``L``.

    Args:
        indptr: Row pointers, length ``n + 1``.
        indices: Columns, sorted in each row; every row has its diagonal entry.
        data: Values.
        diagonal: Where each row keeps its diagonal entry.
        smallest: Pivots must be larger than this, relative to the largest entry of the row of ``A``.
        compensation: Share of what each row drops that is added to its pivot, where that leaves a tenth of the pivot.
        ends: Zero, and where domains end: rows that do not depend on those of other domains.

    Returns:
        The values of both factors on the same pattern, and the row of the first pivot that is too small (-1 when none
        is).
    """
    factors, kernel = data.copy(), _kernels().incomplete_lu
    failed = _by_domains(
        lambda begin, end: kernel(indptr, indices, factors, diagonal, smallest, compensation, begin, end), indptr, ends
    )
    return factors, failed


def scaled_lower(matrix: scipy.sparse.csr_array, scale: Array) -> Triangle:
    """Return the lower triangle of ``S A S``, every row ending with its diagonal entry, stored or not.

    Args:
        matrix: CSR with sorted columns.
        scale: The diagonal of ``S``.

    Returns:
        Row pointers, columns and values.
    """
    n = matrix.shape[0]
    pointers = np.empty(n + 1, matrix.indptr.dtype)
    columns, values = np.empty(matrix.nnz + n, matrix.indices.dtype), np.empty(matrix.nnz + n, matrix.dtype)
    size = _kernels().scaled_lower(matrix.indptr, matrix.indices, matrix.data, scale, pointers, columns, values)
    return pointers, columns[:size].copy(), values[:size].copy()
