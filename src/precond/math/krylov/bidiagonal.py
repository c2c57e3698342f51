"""Golub-Kahan bidiagonalizations of one matrix on the CPU, in compiled stretches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from precond.math.krylov.stretch import Stretch
from precond.math.krylov.vectors import Array
from precond.math.sparse.products import csr_adjoint_times, csr_there_and_back


class Bidiagonalization(Stretch):
    """An iteration on ``A V = U_{+1} B``, ``A^H U = V B^H`` (as columns): LSQR or LSMR.

    Where one pass over the matrix makes two products, ``beta u = A v - alpha u`` of before and ``A^H u`` are made in
    one, which multiplies with each row while the cache has it.

    Args:
        name: The iteration, see `Stretch`.
        shape: Rows and columns of the matrix.
        dtype: Type of the vectors.
        matrix: See `Stretch`.
        inverse: See `Stretch`.
        adjoint: The product of the adjoint with a vector ``[m]``; not used with a matrix in CSR form.
        both: ``both(v, scale, u)`` replaces ``u`` by ``scale A v - u`` and returns ``A^H u``, in one pass; ``None``
            where there is no such thing. A matrix in CSR form has its own.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        dtype: Any,
        matrix: Any,
        inverse: Any,
        adjoint: Callable[[Array], Array],
        both: Callable[[Array, float, Array], Array] | None = None,
    ) -> None:
        super().__init__(name, shape, dtype, matrix, inverse)
        from precond.math.krylov import bidiagonal_kernels as at  # when first needed: numba loads with it

        numbers = self.numbers
        numbers[at.HEIGHT], numbers[at.WIDTH] = shape
        if isinstance(matrix, tuple):
            adjoint = functools.partial(csr_adjoint_times, matrix, shape[1])
            both = functools.partial(csr_there_and_back, matrix)
        if both is not None:
            numbers[at.AT_HAND] = 1
            make_next = functools.partial(self._next, both, self.high[at.U], at.ALPHA)
            self._grants[at.BOTH] = make_next, self.wide, self.wide
        self._grants[at.ADJOINT] = adjoint, self.high, self.wide

    def _next(self, both: Callable[[Array, float, Array], Array], u: Array, place: int, v: Array) -> Array:
        """Replace ``u`` by ``A v / alpha - u``, which does not overflow where ``A`` is huge; return ``A^H u``."""
        alpha = self.numbers.item(place)
        return both(v, 1 / alpha if alpha else 0.0, u)
