"""Complete orthogonal decompositions of dense matrices on the CPU, by LAPACK."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs

Array = np.ndarray[Any, Any]
_rounded = 8  # units of rounding, of a column, to which the entries may hide a rank
_block = 64  # columns that LAPACK works on at a time where it has the room


@dataclasses.dataclass(frozen=True)
class OrthogonalFactors:
    """``A = Q T`` or ``A = Q T^H W^H`` with orthonormal columns of ``Q`` and ``W`` and a triangle ``T``.

    Attributes:
        reflections: Householder vectors of ``Q`` below the diagonal, shape ``[m, min(m, n)]``, and their factors;
            ``None`` for the identity.
        triangle: ``T``, upper triangular, shape ``[rank, rank]``.
        basis: ``W``, shape ``[n, rank]``; ``None`` where the columns of ``A`` are independent.
        rank: The rank, to rounding.
    """

    reflections: tuple[Array, Array] | None
    triangle: Array
    basis: Array | None
    rank: int

    def solve(self, b: Array) -> Array:
        """Return ``A^+ b``, of least norm among the vectors of least residual, for columns ``[m, k]``."""
        rotated = b if self.reflections is None else _rotated(*self.reflections, b)[: self.rank]
        if self.basis is None:
            return self._triangular(rotated, 0)
        return np.asarray(self.basis @ self._triangular(rotated, 2))

    def inverse_gram(self, v: Array) -> Array:
        """Return ``(A^H A)^+ v`` for columns ``[n, k]``."""
        if self.basis is None:
            return self._triangular(self._triangular(v, 2), 0)
        return np.asarray(self.basis @ self._triangular(self._triangular(self.basis.conj().T @ v, 0), 2))

    def inverse_shifted_gram(self, v: Array, shift: float) -> Array:
        """Return ``(A^H A + shift I)^-1 v`` for columns ``[n, k]``, by the triangle of ``[T; shift^1/2 I]``."""
        gram = self.triangle if self.basis is None else self.triangle.conj().T
        below = np.diag(np.full(self.rank, shift**0.5, gram.dtype))
        triangle = np.asfortranarray(np.linalg.qr(np.concatenate([gram, below]), mode="r"))
        shifted = OrthogonalFactors(None, triangle, None, self.rank)
        if self.basis is None:
            return shifted.inverse_gram(v)
        inside = self.basis.conj().T @ v
        return np.asarray((v - self.basis @ inside) / shift + self.basis @ shifted.inverse_gram(inside))

    def _triangular(self, b: Array, transposed: int) -> Array:
        """Solve with ``T``, or with its adjoint where ``transposed`` is 2."""
        if self.rank == 0:
            return b
        (solve,) = get_lapack_funcs(("trtrs",), (self.triangle,))
        found: Array = solve(self.triangle, b, trans=transposed)[0]
        return found


def orthogonal_factors(matrix: Array, given: Any = None) -> OrthogonalFactors:
    """Return the decomposition of a matrix ``[m, n]``: by QR, of its adjoint where it is wide; else with pivots.

    QR is enough where the reciprocal condition number of the triangle with columns of unit norm, as LAPACK estimates
    it, is above ``max(m, n)`` units of rounding. Otherwise the rank is the number of pivots above as many units of the
    first.

    Args:
        matrix: The matrix.
        given: The type of less precision that it was rounded to, a few units of which then decide.

    Returns:
        The factors, in the type of the matrix.
    """
    (m, n), noise = matrix.shape, max(matrix.shape) * np.finfo(matrix.dtype).eps
    noise = noise if given is None else max(noise, _rounded * float(np.finfo(given).eps))
    wide, least = m < n, min(m, n)
    if least:
        factor, condition, form = get_lapack_funcs(("geqrf", "trcon", _named("gqr", matrix)), (matrix,))
        reflections, factors = factor(matrix.conj().T if wide else matrix, lwork=_block * least)[:2]
        triangle = np.asfortranarray(np.triu(reflections[:least]))
        sizes = np.linalg.norm(triangle / (np.abs(triangle).max() or 1.0), axis=0)  # whose squares do not overflow
        if sizes.all() and condition(np.asfortranarray(triangle / sizes), uplo="U")[0] > noise:
            if not wide:
                return OrthogonalFactors((reflections, factors), triangle, None, n)
            return OrthogonalFactors(None, triangle, form(reflections, factors, lwork=_block * least)[0], m)
    return _with_pivots(matrix, noise)


def _with_pivots(matrix: Array, noise: float) -> OrthogonalFactors:
    """Return the complete orthogonal decomposition; what is below ``noise`` times the first pivot is left out."""
    m, n = matrix.shape
    (factor,) = get_lapack_funcs(("geqp3",), (matrix,))
    reflections, pivots, factors = factor(matrix, lwork=_block * (n + 1))[:3]
    sizes = np.abs(reflections.diagonal())
    rank = int((sizes > noise * sizes.max(initial=0)).sum())
    basis = np.empty((n, rank), matrix.dtype)
    basis[pivots - 1], triangle = np.linalg.qr(np.triu(reflections[:rank]).conj().T)
    return OrthogonalFactors((reflections[:, : min(m, n)], factors), np.asfortranarray(triangle), basis, rank)


def _rotated(reflections: Array, factors: Array, b: Array) -> Array:
    """Return ``Q^H b`` for columns ``[m, k]``."""
    (rotate,) = get_lapack_funcs((_named("mqr", reflections),), (reflections,))
    how = "C" if np.iscomplexobj(reflections) else "T"
    found: Array = rotate("L", how, reflections, factors, b, _block * max(1, b.shape[1]))[0]
    return found


def _named(what: str, matrix: Array) -> str:
    """Return the name that LAPACK gives to what it does with an orthogonal, or a unitary matrix."""
    return f"un{what}" if np.iscomplexobj(matrix) else f"or{what}"
