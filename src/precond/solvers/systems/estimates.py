"""What things will cost, estimated from the pattern of a matrix; only decides what is tried first."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from precond.core import Operator
from precond.math.sparse.graphs import width
from precond.solvers.systems.look import Look

_flops = 4e9  # a second, of a sparse factorization
_entries = 1e9  # a second, read by an iteration
_flat = 1.4  # unknowns at each distance, in square roots of all, up to which a graph is as long as planar ones
_cuts = 120  # operations for each unknown and each at its distance


def iteration_seconds(operator: Operator) -> float:
    """Return a lower estimate of the seconds of one iteration, from the entries of the matrix and a few vectors."""
    matrix = operator.entries()
    return 0.0 if matrix is None else (matrix.nnz + 5 * matrix.shape[0]) / _entries


@dataclasses.dataclass(frozen=True)
class Price:
    """What a complete factorization costs.

    Attributes:
        seconds: How long it takes.
        sure: Whether it takes about as long; otherwise this is an upper estimate, which may be far too high.
    """

    seconds: float
    sure: bool


def factorization_price(look: Look) -> Price:
    """Estimate the time of a complete factorization from the pattern.

    A graph about as long as it is wide, as those of planar meshes are, is cut again and again where it is narrow, which
    takes ``120 n w`` operations, measured, where ``w`` unknowns lie at each distance. Of others the estimate is that of
    a profile, which is too high where a few unknowns meet all others.
    """
    operator, matrix = look.operator, look.operator.entries()
    if matrix is None:
        return Price(math.inf, sure=True)
    n = matrix.shape[0]
    symmetric = bool(operator.traits.symmetric)
    pattern = matrix if symmetric else scipy.sparse.csr_array(matrix + matrix.T)
    across = look.extent.width if symmetric else width(pattern)
    if across <= _flat * math.sqrt(n):
        return Price(n * across * min(_cuts, 4 * across) / _flops, sure=True)
    order = scipy.sparse.csgraph.reverse_cuthill_mckee(pattern, symmetric_mode=True)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    entries = pattern.tocoo()
    reach = np.zeros(n)
    np.maximum.at(reach, place[entries.row], (place[entries.row] - place[entries.col]).astype(float))
    return Price(float((reach**2).sum()) / _flops, sure=False)
