"""What a look at a matrix tells of it: how far its unknowns are apart, and which sign it has."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from precond.core import Operator
from precond.math.sparse.graphs import diameter, envelope_share

Array = np.ndarray[Any, Any]

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


def is_narrow(operator: Operator) -> bool:
    """Whether incomplete factors of a sparse matrix are about complete: those of banded and block diagonal ones."""
    matrix = None if operator.dense() is not None else operator.entries()
    return matrix is not None and envelope_share(matrix) >= _full


def is_close(operator: Operator) -> bool:
    """Whether information has a short way: the graph of a large sparse matrix is that of a network, not of a mesh."""
    if operator.dense() is not None or operator.shape[0] < _large:
        return False
    matrix = operator.entries()
    return matrix is not None and not is_narrow(operator) and diameter(matrix) <= _near


def is_wide(operator: Operator) -> bool:
    """Whether information has far to go: a large sparse matrix whose graph is long, and whose factors are not."""
    if operator.dense() is not None or operator.shape[0] < _large:
        return False
    matrix = operator.entries()
    return matrix is not None and not is_narrow(operator) and diameter(matrix) >= _far


def share_of_small_sums(matrix: scipy.sparse.csr_array) -> float:
    """Return the share of the rows whose sums are small beside their entries."""
    filled = matrix.indptr[:-1][np.diff(matrix.indptr) > 0]
    sums = np.abs(np.add.reduceat(matrix.data, filled))
    return int(np.count_nonzero(sums <= _sums * np.add.reduceat(np.abs(matrix.data), filled))) / matrix.shape[0]


def is_indefinite(matrix: scipy.sparse.csr_array, diagonal: Array) -> bool:
    """Whether one vector shows that the Hermitian part of a matrix is indefinite, as its diagonal has another sign.

    A few diagonal entries of the other sign, as rows of boundary conditions have, prove nothing of use. The vector is
    that of ones where the diagonal is scaled to ones, which a Laplacian with a large shift, as Helmholtz' equation has
    it, turns to the other side.
    """
    sizes = np.sqrt(np.abs(diagonal))
    inverse = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    scaled = matrix.data * np.repeat(inverse, np.diff(matrix.indptr)) * inverse[matrix.indices]
    total, size = float(scaled.sum().real), float(np.abs(scaled).sum())
    opposite = np.count_nonzero(diagonal.real * total < 0) / len(diagonal)
    return abs(total) > _none * size and bool(opposite > _nearly or _mixed < opposite < 1 - _mixed)


def is_shifted(operator: Operator) -> bool:
    """Whether ones show that a symmetric matrix is not positive definite, though its diagonal is positive."""
    matrix = None if operator.dense() is not None or operator.traits.definite else operator.entries()
    return matrix is not None and is_indefinite(matrix, matrix.diagonal())


def is_negative(operator: Operator) -> bool:
    """Whether a symmetric matrix may be negative definite: its diagonal is negative throughout."""
    diagonal = operator.diagonal()
    return bool(operator.traits.symmetric) and diagonal is not None and bool((diagonal.real < 0).all())
