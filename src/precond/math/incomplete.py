"""Kernels of incomplete factorizations: IC(0), ILU(0), and the two sweeps that apply a pair of triangles.

All work on CSR arrays with sorted indices. Numba is imported on first use, so that importing the package stays cheap;
the compiled code is cached on disk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse

from precond.math import side
from precond.math.threads import share

Array = np.ndarray[Any, Any]
Triangle = tuple[Array, Array, Array]
"""Row pointers, columns and values of a strictly triangular CSR matrix."""
Sweep = tuple[Array, Array, Array, Array]
"""A triangle without the entries beside its diagonal, and these, length ``n``."""


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math import incomplete_kernels

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


def split_sweeps(indptr: Array, indices: Array, factors: Array, diagonal: Array) -> tuple[Sweep, Sweep, Array]:
    """Return what `two_sweeps` takes of the factors that `incomplete_lu` returns: two triangles, and inverse pivots."""
    n = indptr.size - 1
    lower_size = int((diagonal - indptr[:-1]).sum())
    p, b = np.empty((2, n + 1), indptr.dtype), np.empty((3, n), factors.dtype)
    li, ui = np.empty(lower_size, indices.dtype), np.empty(indices.size - n - lower_size, indices.dtype)
    lx, ux = np.empty(li.size, factors.dtype), np.empty(ui.size, factors.dtype)
    left, right = _kernels().split_sweeps(
        indptr, indices, factors, diagonal, p[0], li, lx, b[0], p[1], ui, ux, b[1], b[2]
    )
    return (p[0], li[:left], lx[:left], b[0]), (p[1], ui[:right], ux[:right], b[1]), b[2]


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


def sweep(triangle: Triangle, offset: int) -> Sweep:
    """Return a triangle with the entries beside the diagonal taken out.

    Args:
        triangle: The triangle.
        offset: -1 for a lower triangle, 1 for an upper one.

    Returns:
        What `two_sweeps` takes.
    """
    indptr, indices, data = triangle
    pointers, columns, values = np.empty_like(indptr), np.empty_like(indices), np.empty_like(data)
    beside = np.empty(indptr.size - 1, data.dtype)
    left = _kernels().beside_diagonal(indptr, indices, data, offset, pointers, columns, values, beside)
    return pointers, columns[:left], values[:left], beside


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


def cholesky_sweeps(factor: Triangle, scale: Array) -> tuple[Sweep, Sweep, Array]:
    """Return what `two_sweeps` needs to apply ``S L^-H L^-1 S``.

    Args:
        factor: ``L`` in rows, each ending with its diagonal entry.
        scale: The diagonal of ``S``, positive.

    Returns:
        The lower and the upper triangle, and the diagonal between them; the outer scalings are ones.
    """
    indptr, indices, data = factor
    n, inside = scale.size, indices.size - scale.size
    small = np.uint32 if indices.size < 2**32 else np.uint64
    lower = np.empty(n + 1, small), np.empty(inside, small), np.empty(inside, data.dtype), np.empty(n, data.dtype)
    upper = tuple(np.empty_like(part) for part in lower)
    between = np.empty(n, scale.dtype)
    _kernels().cholesky_sweeps(indptr, indices, data, scale, *lower, *upper, between)
    left = int(lower[0][-1])
    cut = [(parts[0], parts[1][:left], parts[2][:left], parts[3]) for parts in (lower, upper)]
    return cut[0], cut[1], between


def two_sweeps(lower: Sweep, upper: Sweep, scales: tuple[Array, Array, Array], v: Array) -> Array:
    """Sweep forth and back with a pair of triangles, for each row of ``v``.

    Args:
        lower: The strictly lower triangular ``L``.
        upper: The strictly upper triangular ``U``.
        scales: The diagonals ``S1, S2, S3``, each of length ``n``; empty ones stand for ones in ``S1`` and ``S3``.
        v: Shape ``[batch, n]``, rows contiguous or side by side.

    Returns:
        ``S3 (I + U)^-1 S2 (I + L)^-1 S1 v``, in the same order.
    """
    if side.worthwhile(scales[1], v):
        return side.two_sweeps((*lower, *upper, *scales), v)
    out = np.empty_like(v, order="C")
    _kernels().two_sweeps(*lower, *upper, *scales, v, out)
    return out


def permuted_sweeps(lower: Triangle, upper: Triangle, inverse: Array, rows: Array, columns: Array, v: Array) -> Array:
    """Sweep forth and back with a pair of triangles whose rows are long, permuted, for each row of ``v``.

    Args:
        lower: The strictly lower triangular ``L``.
        upper: The strictly upper triangular ``U``.
        inverse: The diagonal ``S`` between them, length ``n``.
        rows: Entry ``i`` of the permuted vector is entry ``rows[i]`` of ``v``.
        columns: Entry ``j`` of the result is entry ``columns[j]`` of what the sweeps leave.
        v: Shape ``[batch, n]``, rows contiguous.

    Returns:
        ``C (I + U)^-1 S (I + L)^-1 R v``.
    """
    out = np.empty_like(v, order="C")
    _kernels().permuted_sweeps(*lower, *upper, inverse, rows, columns, v, out)
    return out


def arrays(triangle: scipy.sparse.sparray) -> Triangle:
    """Return row pointers, columns (32 bits, unsigned, where they fit) and values of a sparse matrix."""
    csr = scipy.sparse.csr_array(triangle)
    csr.sort_indices()
    small = np.uint32 if max(csr.nnz, csr.shape[0]) < 2**32 else np.uint64
    return csr.indptr.astype(small), csr.indices.astype(small), csr.data


def adjoint_sweep(triangle: Sweep, offset: int) -> Sweep:
    """Return the conjugate transpose of a lower (``offset = -1``) or upper (``offset = 1``) triangle."""
    pointers, columns, values = transposed(triangle[:3])
    return pointers, columns, values, np.roll(triangle[3].conj(), offset)


def transposed(triangle: Triangle) -> Triangle:
    """Return the conjugate transpose of a triangle."""
    indptr, indices, data = triangle
    n = len(indptr) - 1
    matrix = scipy.sparse.csr_array((data, indices.astype(np.int64), indptr.astype(np.int64)), shape=(n, n))
    return arrays(matrix.conj().T)
