"""What a look at a matrix tells of it: how far its unknowns are apart, and which sign it has."""

from __future__ import annotations

import functools

import numpy as np
import scipy.sparse

from precond.core import Operator
from precond.math.sparse.graphs import Extent, envelope_share, extent

_full = 0.9
"""Share of the envelope from which on incomplete factors are taken for complete ones."""
_large, _far = 5000, 220
"""Unknowns, and steps between the two farthest of them, from which a multigrid cycle pays for its setup: on five-point
and seven-point Laplacians it then takes less time than IC(0), whose iterations grow with the distance."""
_near = 16
"""Steps between the two farthest of many unknowns, up to which the diagonal is tried first: where information has a
short way, iterations are few, and incomplete factors of such a graph take as long as ten."""
_sums = 0.1
"""Sum of a row, in units of that of the sizes of its entries, that is small beside them."""
_none = 1e-8
"""Sum of all entries, in units of that of their sizes, up to which it may be rounding."""
_nearly, _mixed = 0.95, 0.25
"""Share of the diagonal that has one sign, and the least of either where signs are mixed."""


class Look:
    """What one sees of a matrix; each thing is looked at once, when first asked for.

    Of dense matrices, and those known by products, nothing is seen but the signs on the diagonal.

    Args:
        operator: The matrix, square.
    """

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self._matrix = None if operator.dense() is not None else operator.entries()

    @functools.cached_property
    def extent(self) -> Extent:
        """How far the graph of a sparse matrix of symmetric pattern extends."""
        assert self._matrix is not None
        return extent(self._matrix)

    @functools.cached_property
    def narrow(self) -> bool:
        """Whether incomplete factors of a sparse matrix are about complete: of banded and block diagonal ones."""
        return self._matrix is not None and envelope_share(self._matrix) >= _full

    @functools.cached_property
    def meshed(self) -> bool:
        """Whether the matrix is large, sparse and not narrow."""
        return self._matrix is not None and self.operator.shape[0] >= _large and not self.narrow

    @property
    def close(self) -> bool:
        """Whether information has a short way: the graph of a large matrix is that of a network, not of a mesh."""
        return self.meshed and self.extent.steps <= _near

    @property
    def wide(self) -> bool:
        """Whether information has far to go: the graph of a large matrix is long, and its factors are not complete."""
        return self.meshed and self.extent.steps >= _far

    @functools.cached_property
    def indefinite(self) -> bool:
        """Whether one vector shows that the Hermitian part is indefinite, as its diagonal has another sign.

        A few diagonal entries of the other sign, as rows of boundary conditions have, prove nothing of use. The vector
        is that of ones where the diagonal is scaled to ones, which a Laplacian with a large shift, as Helmholtz'
        equation has it, turns to the other side.
        """
        if self._matrix is None:
            return False
        diagonal = self._matrix.diagonal()
        sizes = np.sqrt(np.abs(diagonal))
        inverse = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        total = float((inverse @ (self._matrix @ inverse)).real)
        opposite = np.count_nonzero(diagonal.real * total < 0) / len(diagonal)
        if not (opposite > _nearly or _mixed < opposite < 1 - _mixed):
            return False
        return abs(total) > _none * float(inverse @ (abs(self._matrix) @ inverse))

    @property
    def shifted(self) -> bool:
        """Whether ones show that a symmetric matrix is not positive definite, though its diagonal is positive."""
        return not self.operator.traits.definite and self.indefinite

    @functools.cached_property
    def negative(self) -> bool:
        """Whether a symmetric matrix may be negative definite: its diagonal is negative throughout."""
        diagonal = self.operator.diagonal()
        symmetric = bool(self.operator.traits.symmetric)
        return symmetric and diagonal is not None and bool((diagonal.real < 0).all())


def share_of_small_sums(matrix: scipy.sparse.csr_array) -> float:
    """Return the share of the rows whose sums are small beside their entries."""
    filled = matrix.indptr[:-1][np.diff(matrix.indptr) > 0]
    sums = np.abs(np.add.reduceat(matrix.data, filled))
    return int(np.count_nonzero(sums <= _sums * np.add.reduceat(np.abs(matrix.data), filled))) / matrix.shape[0]
