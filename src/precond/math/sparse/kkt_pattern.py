"""Where the entries of sparse Newton systems lie, and in which order they are eliminated: found once for many."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

Array = np.ndarray[Any, Any]
OPTIONS: dict[str, Any] = {"diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}

NOTHING: dict[str, Any] = {"drop_tol": 1.0, "fill_factor": 1.0, "drop_rule": "basic"}
"""An incomplete factorization that drops all it can: what is wanted of it is the order, and that is the same."""


class KKTPattern:
    """The places of ``[[(H + H')/2 + diag, J'], [J, 0]]`` in CSC form, every diagonal entry among them.

    Args:
        hessian: Any matrix with the pattern of ``H``, CSR ``[n, n]``.
        jacobian: Any with that of ``J``, CSR ``[m, n]``.
    """

    def __init__(self, hessian: scipy.sparse.csr_array, jacobian: scipy.sparse.csr_array) -> None:
        self.m, self.n = jacobian.shape
        self._known = hessian.indptr, hessian.indices, jacobian.indptr, jacobian.indices
        side = self.n + self.m
        h, j = hessian.tocoo(), jacobian.tocoo()
        diagonal = np.arange(side)
        rows = np.concatenate([h.row, h.col, j.row + self.n, j.col, diagonal]).astype(np.int64)
        columns = np.concatenate([h.col, h.row, j.col, j.row + self.n, diagonal]).astype(np.int64)
        places, self._places = np.unique(columns * max(side, 1) + rows, return_inverse=True)
        self.columns, self.indices = np.divmod(places, max(side, 1))
        self.indices = self.indices.astype(np.int32)
        self.indptr = np.searchsorted(self.columns, np.arange(side + 1)).astype(np.int32)
        self.diagonal = self._places[len(rows) - side :]
        self._order: tuple[Array, Array, Array, Array] | None = None

    def fits(self, hessian: scipy.sparse.csr_array, jacobian: scipy.sparse.csr_array) -> bool:
        """Whether two blocks have this pattern."""
        given = hessian.indptr, hessian.indices, jacobian.indptr, jacobian.indices
        return all(map(np.array_equal, self._known, given))

    def matrix(self, data: Array) -> scipy.sparse.csc_array:
        """Return the matrix with these entries."""
        side = self.n + self.m
        return scipy.sparse.csc_array((data, self.indices, self.indptr), shape=(side, side))

    def assemble(
        self, hessian: scipy.sparse.csr_array, jacobian: scipy.sparse.csr_array, diagonal: Array
    ) -> scipy.sparse.csc_array:
        """Return the matrix of two blocks with this pattern, and of what is added to the diagonal of ``H``."""
        half = hessian.data / 2
        values = np.concatenate([half, half, jacobian.data, jacobian.data, diagonal, np.zeros(self.m)])
        return self.matrix(np.bincount(self._places, weights=values, minlength=len(self.indices)))

    def equilibrate(self, data: Array, sweeps: int = 3) -> Array:
        """Return positive factors ``d``: columns of ``d_i A_ij d_j`` have largest entries near 1 (D. Ruiz, 2001).

        Args:
            data: The entries.
            sweeps: How often the factors are improved.

        Returns:
            The factors, ``[n + m]``.
        """
        sizes, scale = np.abs(data), np.ones(self.n + self.m)
        for _ in range(sweeps if len(scale) else 0):
            largest = np.maximum.reduceat(sizes * scale[self.indices], self.indptr[:-1]) * scale
            scale = scale / np.sqrt(np.where(largest > 1e-200, largest, 1.0))
        return scale

    def factorize(self, data: Array) -> Factors:
        """Factorize with pivots from the diagonal; the order of elimination is found at the first time.

        Args:
            data: The entries.

        Returns:
            The factors.

        Raises:
            RuntimeError: The matrix is singular.
        """
        if self._order is None:
            order = self._found()
            labels = scipy.sparse.csc_array(self.matrix(np.arange(1, len(data) + 1))[order][:, order])
            labels.sort_indices()
            self._order = order, labels.data - 1, labels.indices, labels.indptr
        order, take, indices, indptr = self._order
        permuted = scipy.sparse.csc_array((data[take], indices, indptr), shape=(len(order), len(order)))
        return Factors(scipy.sparse.linalg.splu(permuted, permc_spec="NATURAL", **OPTIONS), order)

    def _found(self) -> Array:
        """Return an order of elimination: of minimum degree, columns with many entries last."""
        counts = np.diff(self.indptr)
        dense = counts > max(16.0, 10 * len(counts) ** 0.5)  # as in P. R. Amestoy, T. A. Davis, I. S. Duff, 2004
        rest, last = np.flatnonzero(~dense), np.flatnonzero(dense)
        if not len(rest):
            return last
        ones = np.ones(len(self.indices))
        ones[self.diagonal] = counts.max(initial=1)  # diagonally dominant: any order can be factorized
        part = scipy.sparse.csc_array(self.matrix(ones)[rest][:, rest])
        found = scipy.sparse.linalg.spilu(part, permc_spec="MMD_AT_PLUS_A", **NOTHING, **OPTIONS)
        return np.concatenate([rest[np.argsort(found.perm_c)], last])


@dataclasses.dataclass(frozen=True)
class Factors:
    """A sparse factorization, of a matrix whose rows and columns may have been put in another order.

    Attributes:
        found: The factors.
        order: The order, ``[n + m]``; ``None`` if it is the given one.
    """

    found: Any
    order: Array | None

    def inertia(self) -> tuple[int, int] | None:
        """Return the numbers of positive and negative pivots; ``None`` if not all came from the diagonal."""
        pivots = self.found.U.diagonal()
        if not bool((self.found.perm_r == self.found.perm_c).all() and np.isfinite(pivots).all()):
            return None
        return int((pivots > 0).sum()), int((pivots < 0).sum())

    def solve(self, b: Array) -> Array:
        """Return the solution for ``[n + m]``."""
        if self.order is None:
            return np.asarray(self.found.solve(b))
        x = np.empty_like(b)
        x[self.order] = self.found.solve(b[self.order])
        return x


@dataclasses.dataclass
class Patterns:
    """Remembers the pattern of the last system, which the next one mostly has, too.

    Attributes:
        last: The pattern; ``None`` before the first one.
    """

    last: KKTPattern | None = None

    def of(self, hessian: scipy.sparse.csr_array, jacobian: scipy.sparse.csr_array) -> KKTPattern:
        """Return the pattern of two blocks."""
        if self.last is None or not self.last.fits(hessian, jacobian):
            self.last = KKTPattern(hessian, jacobian)
        return self.last
