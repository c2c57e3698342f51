"""Dense matrices on the CPU: what is known of one after reading it once, and its factorization.

LAPACK is called through SciPy: one by one, for matrices of order 64 to 1000, its factorizations took a third of the
time of those of torch, measured on one CPU thread. One right-hand side is solved by ``trsv``, which takes a tenth of
the time of ``potrs``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import scipy.linalg.blas
import scipy.linalg.lapack

Array = np.ndarray[Any, Any]
Map = Callable[[Array], Array]
SINGLE = 96
"""Order from which a factorization in single precision is faster, with the refinement it needs."""
BELIEVED = 1e-2
"""Error of a solve in single precision, up to which a few iterations make up for it."""
_flat = 1e-30  # a scale below which no matrix is divided by


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.dense import matrix_kernels as dense_kernels

    return dense_kernels


@dataclasses.dataclass(frozen=True)
class Facts:
    """What one reading of a matrix tells.

    Attributes:
        norm: Frobenius norm; not finite where an entry is not, or where its square overflows.
        asymmetry: Largest ``|a_ij - conj(a_ji)| / max(|a_ij|, |a_ii a_jj|^1/2)``, whose second scale is that of
            rounding errors in products such as ``X X^T``; infinite where it is not square.
        positive: Whether all diagonal entries are positive.
    """

    norm: float
    asymmetry: float
    positive: bool


def examine(matrix: Array, limit: float = math.inf) -> Facts:
    """Read a matrix once.

    Args:
        matrix: Shape ``[m, n]``, real or complex.
        limit: Asymmetry beyond which its exact value does not matter.

    Returns:
        The facts.
    """
    squares, asymmetry = _kernels().examine(matrix, limit)
    return Facts(math.sqrt(squares), asymmetry, bool((matrix.diagonal().real > 0).all()))


def symmetric_product(matrix: Array, x: Array) -> Array:
    """Return ``A x`` for a real symmetric matrix in rows, reading one half of it."""
    (symv,) = scipy.linalg.blas.get_blas_funcs(("symv",), dtype=matrix.dtype)
    return np.asarray(symv(1.0, matrix.T, x))


@dataclasses.dataclass(frozen=True)
class Factors:
    """What solves with the factors of a matrix.

    Attributes:
        solve: Maps right-hand sides ``[n]`` or columns ``[n, k]`` to solutions of the same type.
        adjoint: The same for the conjugate transpose of the matrix.
    """

    solve: Map
    adjoint: Map


def factorized(matrix: Array, *, definite: bool, single: bool) -> Factors | None:
    """Factorize a square matrix.

    Args:
        matrix: Shape ``[n, n]``; its rows lie one after the other.
        definite: By Cholesky, of a Hermitian positive definite matrix; else by LU with pivoting.
        single: In single precision, of the matrix divided by its largest entry.

    Returns:
        The factors; ``None`` where there are none: the matrix is not definite, or singular, in this precision.
    """
    scale = 1.0
    working = matrix
    if single:
        scale = max(float(np.abs(matrix).max()), _flat)
        working = (matrix * (1 / scale)).astype(np.complex64 if np.iscomplexobj(matrix) else np.float32)
    found = _cholesky(working, overwrite=single) if definite else _lu(working, overwrite=single)
    if found is None or not single:
        return found

    return Factors(
        functools.partial(_widened, found.solve, working.dtype, scale),
        functools.partial(_widened, found.adjoint, working.dtype, scale),
    )


def _widened(inverse: Map, narrow: np.dtype[Any], scale: float, v: Array) -> Array:
    """Return what factors in single precision, of a matrix divided by ``scale``, make of a vector."""
    size = max(float(np.abs(v).max()), _flat)
    return np.asarray(inverse((v * (1 / size)).astype(narrow)).astype(v.dtype) * (size / scale))


def complete_factors(matrix: Array, *, definite: bool) -> Factors | None:
    """Factorize a square matrix, in single precision where that suffices for a preconditioner of products in double.

    Args:
        matrix: Shape ``[n, n]``; its rows lie one after the other.
        definite: Whether to try Cholesky first.

    Returns:
        The factors; ``None`` where the matrix is singular. Those in single precision gave a vector of signs back to a
        hundredth from its image.
    """
    wide = np.finfo(matrix.dtype).dtype == np.float64
    for cholesky in (True, False) if definite else (False,):
        for single in (True, False) if wide and len(matrix) >= SINGLE else (False,):
            with np.errstate(all="ignore"):
                factors = factorized(matrix, definite=cholesky, single=single)
                if factors is not None and (not single or _is_believed(factors, matrix)):
                    return factors
    return None


def _is_believed(factors: Factors, matrix: Array) -> bool:
    """Whether factors give a vector of signs back to a hundredth from its image."""
    signs = np.where(np.random.default_rng(0).random(len(matrix)) < 0.5, -1.0, 1.0).astype(matrix.dtype)
    return bool(np.abs(factors.solve(matrix @ signs) - signs).max() <= BELIEVED)


@functools.cache
def _routines(kind: str) -> dict[str, Any]:
    """Return LAPACK's routines, by name; factors hold arrays alone, so that they can be copied."""
    lapack, blas = ("potrf", "potrs", "getrf", "getrs", "laswp"), ("trsv",)
    found = scipy.linalg.lapack.get_lapack_funcs(lapack, dtype=np.dtype(kind))
    return dict(zip((*lapack, *blas), (*found, *scipy.linalg.blas.get_blas_funcs(blas, dtype=kind)), strict=True))


def _cholesky(a: Array, *, overwrite: bool) -> Factors | None:
    """Return the Cholesky factors of a matrix, ``None`` where it is not definite."""
    factor, info = _routines(a.dtype.char)["potrf"](a.T, lower=1, clean=0, overwrite_a=overwrite)
    if info != 0:
        return None
    solve = functools.partial(_cholesky_solve, factor)
    return Factors(solve, solve)


def _cholesky_solve(factor: Array, v: Array) -> Array:
    """Return the solution by Cholesky factors of the conjugate, as which rows are read as columns."""
    routines = _routines(factor.dtype.char)
    v = v.conj()
    if v.ndim > 1:
        return np.asarray(routines["potrs"](factor, v, lower=1)[0].conj())
    trsv = routines["trsv"]
    return np.asarray(trsv(factor, trsv(factor, v, lower=1), lower=1, trans=2).conj())


def _lu(a: Array, *, overwrite: bool) -> Factors | None:
    """Return the LU factors of a matrix, ``None`` where it is singular."""
    factor, pivots, info = _routines(a.dtype.char)["getrf"](a.T, overwrite_a=overwrite)
    if info != 0:
        return None
    return Factors(functools.partial(_lu_solve, factor, pivots), functools.partial(_lu_adjoint, factor, pivots))


def _lu_solve(factor: Array, pivots: Array, v: Array) -> Array:
    """Return the solution by factors of the transpose."""
    routines = _routines(factor.dtype.char)
    if v.ndim > 1:
        return np.asarray(routines["getrs"](factor, pivots, v, trans=1)[0])
    trsv = routines["trsv"]
    v = trsv(factor, trsv(factor, v, trans=1), lower=1, trans=1, diag=1)
    return np.asarray(routines["laswp"](v[:, None], pivots, inc=-1)[:, 0])


def _lu_adjoint(factor: Array, pivots: Array, v: Array) -> Array:
    """Return the solution with the adjoint by factors of the transpose."""
    return np.asarray(_routines(factor.dtype.char)["getrs"](factor, pivots, v.conj())[0].conj())
