"""What things will cost, estimated from the pattern of a matrix; only decides what is tried first."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse.csgraph

from precond.core import Operator

_flops = 4e9  # a second, of a sparse factorization
_entries = 1e9  # a second, read by an iteration


def iteration_seconds(operator: Operator) -> float:
    """Return a lower estimate of the seconds of one iteration, from the entries of the matrix and a few vectors."""
    matrix = operator.entries()
    return 0.0 if matrix is None else (matrix.nnz + 5 * matrix.shape[0]) / _entries


def factorization_seconds(operator: Operator) -> float:
    """Return an upper estimate of the seconds of a complete factorization, from the profile of the pattern."""
    matrix = operator.entries()
    if matrix is None:
        return math.inf
    pattern = matrix + matrix.T
    order = scipy.sparse.csgraph.reverse_cuthill_mckee(pattern.tocsr(), symmetric_mode=True)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    entries = pattern.tocoo()
    width = np.zeros(len(order))
    np.maximum.at(width, place[entries.row], (place[entries.row] - place[entries.col]).astype(float))
    return float((width**2).sum()) / _flops
