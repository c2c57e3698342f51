"""A multigrid cycle over a hierarchy of sparse matrices: what an algebraic multigrid preconditioner is applied by.

Matrices may rest in single precision while vectors are double: the cycle stays a linear, symmetric map to the
precision of the vectors, and reads half the memory.
"""

from __future__ import annotations

import dataclasses
import functools
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse

Array = np.ndarray[Any, Any]
Sparse: TypeAlias = scipy.sparse.csr_array
_huge = 1e30  # largest ratio of diagonal entries that single precision holds with room to spare


@functools.cache
def kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.sparse import multigrid_kernels

    return multigrid_kernels


@dataclasses.dataclass(frozen=True)
class Level:
    """One level but the coarsest: ``A = L + D + U`` and the prolongation ``P`` from the next.

    Attributes:
        parts: Pointers, columns and values of ``L`` without the entries beside the diagonal, and these; of ``U``, too;
            the inverse of ``D``, and the three arrays of ``P``.
        size: Unknowns.
    """

    parts: tuple[Array, ...]
    size: int


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """The levels, from fine to coarse, and the inverse of the coarsest matrix.

    Attributes:
        levels: All levels but the coarsest.
        coarsest: The pseudoinverse of the coarsest matrix, dense, shape ``[m, m]``.
    """

    levels: tuple[Level, ...]
    coarsest: Array


def galerkin(matrix: Sparse, prolongations: list[Sparse]) -> list[Sparse]:
    """Return the matrices of all levels, ``A_0 = A`` and ``A_{l+1} = P_l^H A_l P_l``.

    Args:
        matrix: The matrix of the finest level.
        prolongations: ``P_0, P_1, ...``

    Returns:
        As many matrices as prolongations, and one more.
    """
    matrices = [matrix]
    for prolongation in prolongations:
        coarse = (prolongation.conj().T.tocsr() @ (matrices[-1] @ prolongation)).tocsr()
        matrices.append(coarse)
    return matrices


def hierarchy(matrices: list[Sparse], prolongations: list[Sparse]) -> Hierarchy:
    """Return what the cycle needs of the matrices of all levels.

    Args:
        matrices: Hermitian matrices, from fine to coarse.
        prolongations: From each level but the finest to the one before.

    Returns:
        The hierarchy. Diagonal entries that are zero count as one.
    """
    levels = tuple(_level(a, p) for a, p in zip(matrices, prolongations, strict=False))
    dense = matrices[-1].toarray()
    wide = (0.5 * dense + 0.5 * dense.conj().T).astype(np.result_type(dense.dtype, np.float64))
    cut = wide.shape[0] * float(np.finfo(dense.dtype).eps)
    return Hierarchy(levels, np.linalg.pinv(wide, rcond=cut, hermitian=True).astype(dense.dtype))


def cycle(levels: Hierarchy, b: Array) -> Array:
    """Return one symmetric V(1, 1) cycle from zero, with Gauss-Seidel sweeps forth before and back after.

    Args:
        levels: The hierarchy.
        b: Right-hand sides, shape ``[batch, n]``, rows contiguous.

    Returns:
        The approximate solutions, shape ``[batch, n]``.
    """
    out = np.empty_like(b, order="C")
    for row, x in zip(b, out, strict=True):
        _cycle(levels, row, x)
    return out


def _cycle(levels: Hierarchy, b: Array, x: Array) -> None:
    """Write the cycle for one right-hand side to ``x``."""
    loops = kernels()
    right, left = [b], [x]
    for index, level in enumerate(levels.levels):
        last = index + 1 == len(levels.levels)
        size = len(levels.coarsest) if last else levels.levels[index + 1].size
        right.append(np.empty(size, b.dtype))
        left.append(np.empty(size, b.dtype))
        loops.down(*level.parts, right[index], left[index], right[index + 1])
    left[-1][:] = levels.coarsest @ right[-1]
    for index in reversed(range(len(levels.levels))):
        loops.up(*levels.levels[index].parts, right[index], left[index], left[index + 1])


def _level(matrix: Sparse, prolongation: Sparse) -> Level:
    """Return a matrix in triangles, in single precision where its entries allow."""
    if not matrix.has_sorted_indices:
        matrix = matrix.sorted_indices()
    n = matrix.shape[0]
    sizes = np.abs(matrix.diagonal())
    least, most = sizes.min(initial=np.inf, where=sizes > 0), np.abs(matrix.data).max(initial=0)
    narrow = np.dtype(np.complex64 if np.iscomplexobj(matrix.data) else np.float32)
    kind = narrow if most < _huge and least > 1 / _huge else matrix.dtype
    row = np.repeat(np.arange(n, dtype=np.int32), np.diff(matrix.indptr))
    below, above = int((matrix.indices < row).sum()), int((matrix.indices > row).sum())
    small = np.uint32 if matrix.nnz < 2**32 else np.uint64
    lp, up = np.empty(n + 1, small), np.empty(n + 1, small)
    li, ui = np.empty(below, small), np.empty(above, small)
    lx, ux = np.empty(below, kind), np.empty(above, kind)
    lb, ub, diagonal = np.empty(n, kind), np.empty(n, kind), np.empty(n, matrix.dtype)
    kernels().triangles(matrix.indptr, matrix.indices, matrix.data, lp, li, lx, lb, up, ui, ux, ub, diagonal)
    lower, upper = (lp, li[: lp[-1]], lx[: lp[-1]], lb), (up, ui[: up[-1]], ux[: up[-1]], ub)
    inverse = 1 / np.where(diagonal == 0, 1, diagonal).real.astype(sizes.dtype)
    parts = (prolongation.indptr.astype(small), prolongation.indices.astype(small), prolongation.data.astype(kind))
    return Level((*lower, *upper, inverse, *parts), n)
