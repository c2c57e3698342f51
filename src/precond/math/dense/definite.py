"""The Cholesky factor of one symmetric positive definite matrix, and solves with it.

On the CPU LAPACK is called through SciPy, as in `precond.math.dense.matrix`: for matrices of order 4 to 1000 a
factorization with its check of the pivots takes from a half (small) to 0.85 of the time that torch's takes with
the same check, and a solve with one vector, by ``trsv``, from 0.7 to 0.97 of two triangular solves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg.blas
import scipy.linalg.lapack
import torch
from torch import Tensor

from precond.math.krylov.vectors import rows

PIVOT = 1e-7
"""Share of a diagonal entry below which what elimination leaves in double precision is rounding."""


@functools.cache
def _routines(dtype: np.dtype[Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return ``potrf`` and ``trsv`` for numbers of a type."""
    (potrf,) = scipy.linalg.lapack.get_lapack_funcs(("potrf",), dtype=dtype)
    (trsv,) = scipy.linalg.blas.get_blas_funcs(("trsv",), dtype=dtype)
    return potrf, trsv


def definite_factor(matrix: Tensor, share: float = 0.0) -> Tensor | None:
    """Return the Cholesky factor of a symmetric matrix.

    Args:
        matrix: Shape ``[n, n]``.
        share: What the square of each pivot must exceed, as a share of its diagonal entry.

    Returns:
        Lower triangular ``L`` with ``L L' = B``, laid out by columns; ``None`` where the matrix is not definite beyond
        that share, or not finite.
    """
    array = rows(matrix)
    if isinstance(array, Tensor) or not len(array):
        factor, info = torch.linalg.cholesky_ex(matrix)
        definite = not int(info) and bool((factor.diagonal().square() > share * matrix.diagonal()).all())
        return factor if definite else None
    found, info = _routines(array.dtype)[0](array.T, lower=1)
    pivots = found.diagonal()
    return torch.from_numpy(found) if not info and (pivots * pivots > share * array.diagonal()).all() else None


def solve_with_factor(factor: Tensor, v: Tensor) -> Tensor:
    """Return ``(L L')^-1 v`` for each row.

    Args:
        factor: Lower triangular ``L``, ``[n, n]`` or ``[batch, n, n]``, best laid out by columns.
        v: Vectors, ``[batch, n]``.

    Returns:
        Shape ``[batch, n]``.
    """
    if len(v) == 1 and v.is_cpu and v.numel():
        lower = rows(factor if factor.ndim == 2 else factor[0])
        _, trsv = _routines(lower.dtype)
        half = trsv(lower, rows(v)[0], lower=1)
        return torch.from_numpy(trsv(lower, half, lower=1, trans=1, overwrite_x=1))[None]
    columns = v.mT if factor.ndim == 2 else v[..., None]
    half = torch.linalg.solve_triangular(factor, columns, upper=False)
    found = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return found.mT if factor.ndim == 2 else found[..., 0]
