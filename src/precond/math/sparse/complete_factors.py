"""The complete factors of a sparse matrix: SuperLU's as long as few vectors come, then triangles of our own."""

from __future__ import annotations

from typing import Any

import numpy as np

from precond.math.sparse.complete import triangle_by_rows
from precond.math.sparse.sweeps import Triangle, permuted_sweeps, transposed

Array = np.ndarray[Any, Any]
_few = 8
"""Vectors in whose time the triangles are turned; each takes half as long from then on, measured."""
_Swept = tuple[Triangle, Triangle, Array, Array, Array]
"""What `permuted_sweeps` takes: two triangles, the diagonal between them, permutations of rows and columns."""


class CompleteFactors:
    """``Pr A Pc = L U``, which solves with ``A`` and with its adjoint; copies and pickles hold the triangles.

    Args:
        lu: What ``scipy.sparse.linalg.splu`` returns.
    """

    def __init__(self, lu: Any) -> None:
        self._lu = lu
        self._solved = 0
        self._triangles: _Swept | None = None
        self._adjoint: _Swept | None = None

    def solve(self, v: Array) -> Array:
        """Return ``A^-1 v`` for each row of ``v``, ``[batch, n]``."""
        if self._goes_on(v):
            return self._superlu(v, "N")
        return permuted_sweeps(*self.triangles(), np.ascontiguousarray(v))

    def adjoint(self, v: Array) -> Array:
        """Return ``A^-H v`` for each row of ``v``."""
        if self._goes_on(v):
            return self._superlu(v, "H")
        if self._adjoint is None:
            # (I + U)^-1 S (I + L)^-1 has the adjoint (I + L^H)^-1 S^H (I + U^H)^-1
            lower, upper, inverse, rows, columns = self.triangles()
            self._adjoint = transposed(upper), transposed(lower), inverse.conj(), np.argsort(columns), np.argsort(rows)
        first, second, inverse, rows, columns = self._adjoint
        return permuted_sweeps(first, second, inverse, rows, columns, np.ascontiguousarray(v))

    def triangles(self) -> _Swept:
        """Return the factors by rows; made when first asked for."""
        if self._triangles is None:
            lower, _ = triangle_by_rows(self._lu.L)
            (pointers, columns, values), pivots = triangle_by_rows(self._lu.U)
            inverse = 1 / pivots
            upper = pointers, columns, values * np.repeat(inverse, np.diff(pointers))
            places = np.argsort(self._lu.perm_r), self._lu.perm_c.astype(np.int64)
            self._triangles, self._lu = (lower, upper, inverse, *places), None
        return self._triangles

    def _goes_on(self, v: Array) -> bool:
        """Count vectors; whether SuperLU solves for these."""
        self._solved += len(v)
        return self._lu is not None and self._solved <= _few

    def _superlu(self, v: Array, which: str) -> Array:
        columns = v[0] if len(v) == 1 else np.ascontiguousarray(v.T)
        return np.asarray(self._lu.solve(columns, which)).T.reshape(v.shape)

    def __getstate__(self) -> dict[str, Any]:
        """Hold the triangles, as SuperLU's factors cannot be copied."""
        self.triangles()
        return self.__dict__
