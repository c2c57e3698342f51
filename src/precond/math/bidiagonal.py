"""Golub-Kahan bidiagonalizations of one matrix on the CPU, in compiled stretches."""

from __future__ import annotations

import functools
from typing import Any

from precond.math.sparse import csr_adjoint_times, csr_there_and_back
from precond.math.stretch import Stretch
from precond.math.vectors import Array


class Bidiagonalization(Stretch):
    """An iteration on ``A V = U_{+1} B``, ``A^H U = V B^H`` (as columns): LSQR or LSMR.

    Where the matrix is at hand, ``beta u = A v - alpha u`` of before and ``A^H u`` are made in one pass over it, which
    multiplies with each row while the cache has it.

    Args:
        name: The iteration, see `Stretch`.
        shape: Rows and columns of the matrix.
        dtype: Type of the vectors.
        matrix: See `Stretch`.
        inverse: See `Stretch`.
        adjoint: The product of the adjoint with a vector ``[m]``; not used where the matrix is at hand.
    """

    def __init__(self, name: str, shape: tuple[int, int], dtype: Any, matrix: Any, inverse: Any, adjoint: Any) -> None:
        super().__init__(name, shape, dtype, matrix, inverse)
        from precond.math import bidiagonal_kernels as at  # when first needed: numba loads with it

        numbers = self.numbers
        numbers[at.HEIGHT], numbers[at.WIDTH] = shape
        if isinstance(matrix, tuple):
            adjoint = functools.partial(csr_adjoint_times, matrix, shape[1])
            numbers[at.AT_HAND] = 1
            make_next = functools.partial(self._next, matrix, self.high[at.U], at.ALPHA)
            self._grants[at.BOTH] = make_next, self.wide, self.wide
        self._grants[at.ADJOINT] = adjoint, self.high, self.wide

    def _next(self, parts: tuple[Array, Array, Array], u: Array, place: int, v: Array) -> Array:
        """Replace ``u`` by ``A v / alpha - u``, which does not overflow where ``A`` is huge; return ``A^H u``."""
        alpha = self.numbers.item(place)
        return csr_there_and_back(parts, v, 1 / alpha if alpha else 0.0, u)
