"""Sparse matrices known by their products alone: which entries are not zero, and products enough to recover them.

A product with a random vector that is zero outside of a set of columns shows which rows have an entry in the set. Sets
of columns without a row in common share one product: intervals of columns are halved until single columns are left, and
on each level a coloring tells which intervals can be tested together. The same coloring of single columns then recovers
all entries at one point from as many products as there are colors (A. R. Curtis, M. J. D. Powell, J. K. Reid, *On the
estimation of sparse Jacobian matrices*, 1974; T. F. Coleman, J. J. More, 1983).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse

Array = np.ndarray[Any, Any]
Products = Callable[[Array], Array]

INTERVALS = 64
"""Intervals that the search starts from, each tested alone."""
FULL = {32: 0.9, 256: 0.5}
"""From so many intervals on, a row with entries in more than this share of them counts as full."""


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.sparse import pattern_kernels

    return pattern_kernels


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Where a matrix ``[m, n]`` may have entries.

    Attributes:
        rows: CSR matrix of ones, ``[m, n]``, without the full rows; for symmetric ones, without their columns, too.
        full: Rows with so many entries that they are asked for one by one.
        colors: Color of each column, ``[n]``; columns of one color have no row of ``rows`` in common. Those that are
            known from full rows by symmetry have color -1.
        symmetric: Whether the matrix is.
    """

    rows: scipy.sparse.csr_array
    full: Array
    colors: Array
    symmetric: bool = False

    @property
    def count(self) -> int:
        """Number of colors."""
        return int(self.colors.max(initial=-1)) + 1

    def seeds(self, first: int, last: int, dtype: np.dtype[Any]) -> Array:
        """Return the vectors of the colors from ``first`` to before ``last``, ``[last - first, n]``."""
        vectors = np.zeros((last - first, len(self.colors)), dtype)
        inside = (self.colors >= first) & (self.colors < last)
        vectors[self.colors[inside] - first, np.flatnonzero(inside)] = 1
        return vectors

    def recover(self, products: Array) -> scipy.sparse.csr_array:
        """Return the entries outside of full rows from the products with all seeds, ``[count, m]``."""
        indptr, indices = self.rows.indptr, self.rows.indices
        data = products[self.colors[indices], _owners(self.rows)] if len(indices) else np.zeros(0, products.dtype)
        return scipy.sparse.csr_array((data, indices, indptr), shape=self.rows.shape)

    @classmethod
    def of(cls, rows: scipy.sparse.csr_array, full: Array, symmetric: bool) -> Pattern:
        """Return the pattern with its columns colored; what full rows hold is taken out."""
        inside = ~np.isin(_owners(rows), full)
        if symmetric:
            inside &= ~np.isin(rows.indices, full)
        rows = _csr(_owners(rows)[inside], rows.indices[inside], rows.shape)
        colors = colored(rows)
        if symmetric:
            colors[full] = -1
        return cls(rows, full, colors, symmetric)

    def joined(self, other: Pattern) -> Pattern:
        """Return the pattern of everything that is in either."""
        rows = scipy.sparse.csr_array(self.rows + other.rows)
        return Pattern.of(rows, np.union1d(self.full, other.full), self.symmetric)


def colored(rows: scipy.sparse.csr_array) -> Array:
    """Return a color for each column so that no row has two of the same, greedily, ``[n]``."""
    columns = scipy.sparse.csc_array(rows)
    colors = np.full(rows.shape[1], -1, np.int64)
    if rows.shape[1]:
        _kernels().greedy_colors(rows.indptr, rows.indices, columns.indptr, columns.indices, colors)
    return colors


def find_pattern(
    product: Products, shape: tuple[int, int], *, symmetric: bool = False, seed: int = 0, most: int = 512,
    most_full: int = 32,
) -> Pattern | None:  # fmt: skip
    """Find the entries of a matrix that are not zero.

    Args:
        product: Maps vectors ``[k, n]`` to products ``[k, m]``.
        shape: ``(m, n)``.
        symmetric: Whether it equals its transpose; then columns of full rows are left out as well.
        seed: Seed of the random vectors.
        most: Products allowed on one level.
        most_full: Full rows allowed.

    Returns:
        The pattern; ``None`` where the matrix is not sparse enough for it.
    """
    m, n = shape
    rng = np.random.default_rng(seed)
    length = 1
    while length * INTERVALS < n:
        length *= 2
    count = -(-n // length) if n else 0
    rows = scipy.sparse.csr_array(_tested(product, rng, np.arange(n) // length, count, n, m).T)  # rows by intervals
    full = np.zeros(0, np.int64)
    while length > 1:
        rows, full, colors = _without_full(rows, full)
        if len(full) > most_full or 2 * (int(colors.max(initial=-1)) + 1) > most:
            return None
        length //= 2
        finer = np.arange(n) // length
        tests = 2 * colors[finer // 2] + finer % 2  # the halves of intervals of one color share two tests
        found = _tested(product, rng, tests, 2 * (int(colors.max(initial=-1)) + 1), n, m)
        owner = _owners(rows)
        halves = [(owner, 2 * rows.indices + half, found[2 * colors[rows.indices] + half, owner]) for half in (0, 1)]
        i, j, kept = (np.concatenate(part) for part in zip(*halves, strict=True))
        rows = _csr(i[kept], j[kept], (m, -(-n // length)))
    rows, full, colors = _without_full(rows, full)
    if len(full) > most_full or int(colors.max(initial=-1)) + 1 > most:
        return None
    return Pattern.of(rows, full, symmetric)


def _tested(product: Products, rng: np.random.Generator, tests: Array, count: int, n: int, m: int) -> Array:
    """Return which rows the tests touch, ``[count, m]``; ``tests`` says to which of them each column belongs."""
    found = np.zeros((count, m), bool)
    values = rng.uniform(0.5, 1.5, n) * rng.choice([-1.0, 1.0], n)
    step = max(1, 2**24 // (8 * max(n, m, 1)))
    for first in range(0, count, step):
        last = min(count, first + step)
        vectors = np.zeros((last - first, n))
        inside = (tests >= first) & (tests < last)
        vectors[tests[inside] - first, np.flatnonzero(inside)] = values[inside]
        found[first:last] = product(vectors) != 0
    return found


def _without_full(rows: scipy.sparse.csr_array, full: Array) -> tuple[scipy.sparse.csr_array, Array, Array]:
    """Return the rows without those that are full, the longer list of these, and colors of the columns."""
    k = rows.shape[1]
    counts = np.diff(rows.indptr)
    limit = min((share * k for least, share in FULL.items() if k >= least), default=k)
    if bool((counts > limit).any()):
        full = np.union1d(full, np.flatnonzero(counts > limit))
        owner = _owners(rows)
        kept = ~np.isin(owner, full)
        rows = _csr(owner[kept], rows.indices[kept], rows.shape)
    return rows, full, colored(rows)


def _owners(rows: scipy.sparse.csr_array) -> Array:
    """Return the row of each entry."""
    return np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))


def _csr(i: Array, j: Array, shape: tuple[int, int]) -> scipy.sparse.csr_array:
    matrix = scipy.sparse.csr_array((np.ones(len(i), np.int8), (i, j)), shape=shape)
    matrix.sum_duplicates()
    return matrix
