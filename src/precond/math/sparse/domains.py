"""Triangular sweeps that two threads can share: domains first, what separates them last.

The rows of a matrix are cut into chunks. The first rows of a chunk, down to the last one that is coupled to an earlier
chunk, separate the others from it: these others are domains, coupled to each other by separators alone. With all
domains first and the separators last, a factorization and its sweeps treat domains independently, whoever does them.
"""

from __future__ import annotations

import dataclasses
import functools
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse

from precond.math.krylov import side
from precond.math.machine.threads import share
from precond.math.sparse.sweeps import Array, Sweep, two_sweeps

_most = 0.25  # share of the rows that may separate


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.sparse import domain_kernels

    return domain_kernels


@dataclasses.dataclass(frozen=True)
class Domains:
    """An order of unknowns.

    Attributes:
        count: Domains.
        ranges: A row ``(first, last, shift)`` for each domain, then for each separator: place ``i`` of the new order
            is ``i + shift`` of the old one, modulo ``2^64``.
        old: The old place of each new one, shape ``[n]``.
        new: The new place of each old one, shape ``[n]``.
    """

    count: int
    ranges: Array
    old: Array
    new: Array

    @property
    def ends(self) -> list[int]:
        """Zero, and where each domain ends in the new order."""
        return [0, *(int(last) for last in self.ranges[: self.count, 1])]

    def ordered(self, matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
        """Return a matrix with sorted columns in the new order of rows and columns, sorted."""
        p, i, x = np.empty_like(matrix.indptr), np.empty_like(matrix.indices), np.empty_like(matrix.data)
        within = int(self.ranges[self.count - 1, 1])
        _kernels().reorder(matrix.indptr, matrix.indices, matrix.data, self.old, self.new, within, p, i, x)
        return scipy.sparse.csr_array((x, i, p), shape=matrix.shape)

    def sweeps(self, lower: Sweep, upper: Sweep, scales: tuple[Array, Array, Array], v: Array) -> Array:
        """Sweep forth and back with triangles of the new order, for vectors of the old one.

        Args:
            lower: As for `precond.math.sparse.sweeps.two_sweeps`.
            upper: As there.
            scales: As there.
            v: Shape ``[batch, n]``, rows contiguous or side by side.

        Returns:
            What `two_sweeps` returns of them, in the old order.
        """
        if side.worthwhile(scales[1], v):
            return self._moved(two_sweeps(lower, upper, scales, self._moved(v)), back=True)
        kernels, count, every = _kernels(), self.count, len(self.ranges)
        s1, s2, s3 = scales
        out: Array = np.empty(v.shape, v.dtype)
        y = np.empty(v.shape[1], v.dtype)
        for row, result in zip(v, out, strict=True):

            def forth(begin: int, end: int, row: Array = row) -> None:
                kernels.down(*lower, s1, self.ranges, begin, end, row, y)

            def back(begin: int, end: int, result: Array = result) -> None:
                kernels.back(*upper, s2, s3, self.ranges, begin, end, y, result)

            share(forth, count)
            forth(count, every)
            back(count, every)
            share(back, count)
        return out

    def _moved(self, v: Array, *, back: bool = False) -> Array:
        """Return vectors in the new order, or back in the old one, as they lie."""
        out = np.empty_like(v)
        for first, last, shift in self.ranges.view(np.int64).tolist():
            here, there = slice(first, last), slice(first + shift, last + shift)
            out[:, there if back else here] = v[:, here if back else there]
        return out


def split(matrix: scipy.sparse.csr_array, count: int, strongest: float = 1.0) -> Domains | None:
    """Cut a matrix into domains.

    Args:
        matrix: Square.
        count: Chunks.
        strongest: Share of what couples separators that may couple them to earlier chunks.

    Returns:
        The order, or ``None`` where more than a quarter of the rows would separate, or they are coupled more strongly.
    """
    n = matrix.shape[0]
    bounds = np.linspace(0, n, count + 1).astype(np.int64)
    begin = np.empty(count, np.int64)
    _kernels().beginnings(matrix.indptr, matrix.indices, bounds, begin)
    if (begin - bounds[:-1]).sum() > _most * n:
        return None
    if strongest < 1 and _kernels().crossing(matrix.indptr, matrix.indices, matrix.data, bounds, begin) > strongest:
        return None
    pieces = [*zip(begin, bounds[1:], strict=True), *zip(bounds[:-1], begin, strict=True)]
    old = np.concatenate([np.arange(*piece) for piece in pieces])
    last = np.cumsum([end - start for start, end in pieces])
    first = np.concatenate([[0], last[:-1]])
    shift = np.array([start for start, _ in pieces]) - first
    new: Any = np.empty_like(old)
    new[old] = np.arange(n)
    return Domains(count, np.stack([first, last, shift], axis=1).astype(np.int64).view(np.uint64), old, new)
