"""Pairs of triangles and the two sweeps that apply them.

All work on CSR arrays with sorted indices. Numba is imported on first use, so that importing the package stays cheap;
the compiled code is cached on disk.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse

from precond.math.krylov import side

Array = np.ndarray[Any, Any]
Triangle = tuple[Array, Array, Array]
"""Row pointers, columns and values of a strictly triangular CSR matrix."""
Sweep = tuple[Array, Array, Array, Array]
"""A triangle without the entries beside its diagonal, and these, length ``n``."""


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.sparse import sweep_kernels

    return sweep_kernels


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
