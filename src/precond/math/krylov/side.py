"""Vectors side by side: entry ``i`` of all of them, then entry ``i + 1``.

A batch ``[count, n]`` of that order in memory is the transpose of an array ``[n, count]``, as users hold right-hand
sides. A matrix then meets all vectors at once, and one multiply-add of the processor serves several of them, where
rows of a batch would each wait for entries from all over the vector. Real numbers on the CPU alone, and only where the
compiler at hand makes loops of them that work; everywhere else vectors stay rows.
"""

from __future__ import annotations

import functools
import logging
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_log = logging.getLogger(__name__)
FEWEST = 4
"""Vectors from which on it pays to lay them side by side, and back."""


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.krylov import side_kernels

    return side_kernels


@functools.cache
def available() -> bool:
    """Whether the loops compile here and are right: tried once, on a product with vectors of all widths.

    They are written in the compiler's own language (`precond.math.machine.lanes`), which other versions may speak
    differently.
    """
    count, row = 31, np.arange(62.0).reshape(31, 2)
    out = np.empty(count)
    parts = np.array([0, 2], np.uint32), np.array([0, 1], np.uint32), np.array([2.0, -1.0])
    try:
        _kernels().times(*parts, row.T.reshape(-1), np.uint64(count), out)
    except Exception as error:  # whatever an unknown compiler raises
        _log.warning("vectors are kept as rows, since the loops for vectors side by side do not compile: %s", error)
        return False
    return bool((out == 2 * row[:, 0] - row[:, 1]).all())


def is_side(x: Array) -> bool:
    """Whether the vectors of a batch ``[count, n]`` lie side by side, and there are loops for them."""
    return len(x) > 1 and x.flags.f_contiguous and not x.flags.c_contiguous and available()


def worthwhile(data: Array, x: Array) -> bool:
    """Whether a matrix with these values should meet the vectors of a batch side by side, wherever they lie now."""
    fit = len(x) > 1 and data.dtype == x.dtype and x.dtype.kind == "f"
    return fit and (is_side(x) or (len(x) >= FEWEST and available()))


def flat(x: Array) -> Array:
    """Return vectors that lie side by side, ``[count, n]``, as one array of the same memory."""
    return x.T.reshape(-1)


def joined(x: Array) -> Array:
    """Return vectors side by side, as a batch ``[count, n]``: the array itself where they do, else a copy."""
    if is_side(x):
        return x
    out = empty(len(x), x.shape[1], x.dtype)
    _kernels().join(np.ascontiguousarray(x), flat(out))
    return out


def apart(x: Array) -> Array:
    """Return vectors that lie side by side, ``[count, n]``, as contiguous rows."""
    out = np.empty(x.shape, x.dtype)
    _kernels().part(flat(x), out)
    return out


def empty(count: int, n: int, dtype: Any) -> Array:
    """Return a batch ``[count, n]`` side by side that is still to be written."""
    return np.empty((n, count), dtype).T


def times(parts: tuple[Array, Array, Array], x: Array) -> Array:
    """Return the product of a CSR matrix with each vector, ``[count, n] -> [count, m]``, in the order of ``x``."""
    indptr, indices, data = parts
    m, count = indptr.size - 1, len(x)
    if is_side(x):
        out = empty(count, m, data.dtype)
        _kernels().times(indptr, indices, data, flat(x), np.uint64(count), flat(out))
        return out
    out = np.empty((count, m), data.dtype)
    _kernels().times_rows(indptr, indices, data, np.ascontiguousarray(x), out)
    return out


def two_sweeps(sweeps: tuple[Array, ...], v: Array) -> Array:
    """Do what `precond.math.sparse.sweeps.two_sweeps` does, in the order of ``v``.

    Args:
        sweeps: The arrays of both triangles, and the three diagonals.
        v: Shape ``[count, n]``.

    Returns:
        The swept vectors, shape ``[count, n]``.
    """
    out = empty(len(v), v.shape[1], v.dtype)
    _kernels().two_sweeps(*sweeps, flat(joined(v)), np.uint64(len(v)), flat(out))
    return out if is_side(v) else apart(out)


def dots(x: Array, y: Array) -> Array:
    """Return ``x^T y`` of each vector, shape ``[count]``."""
    out = np.empty(len(x))
    _kernels().dots(flat(x), flat(y), out)
    return out


def advance(x: Array, r: Array, p: Array, q: Array, alpha: Array) -> Array:
    """Add ``alpha p`` to ``x`` and take ``alpha q`` from ``r``; return the norms of ``r``, shape ``[count]``."""
    norms = np.empty(len(x))
    _kernels().advance(flat(x), flat(r), flat(p), flat(q), alpha, norms)
    return norms


def turn(p: Array, z: Array, beta: Array) -> None:
    """Replace ``p`` by ``z + beta p``."""
    _kernels().turn(flat(p), flat(z), beta)


def gram(x: Array, y: Array) -> Array:
    """Return ``x y^T``, the inner products of vectors; shapes ``[h, n], [w, n] -> [h, w]``."""
    out = np.zeros((len(x), len(y)), x.dtype)
    _kernels().gram(flat(x), flat(y), out)
    return out


def combine(x: Array, factors: Array, out: Array) -> None:
    """Add ``factors^T x`` to ``out``; shapes ``[h, n], [h, w], [w, n]``."""
    _kernels().combine(flat(x), np.ascontiguousarray(factors), flat(out))
