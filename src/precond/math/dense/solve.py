"""One dense system by a factorization and refinement, in single precision first where that is enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from precond.math.dense.matrix import SINGLE, Array, factorized

_attainable = 1e-14


@dataclasses.dataclass(frozen=True)
class Solved:
    """How the solution of one system ended.

    Attributes:
        residuals: ``||b - A x||`` of each right-hand side, recomputed at the end.
        steps: Solves with factors.
        factorizations: Factorizations made.
        singular: There was none that could be used.
    """

    residuals: Array
    steps: int
    factorizations: int
    singular: bool


def solve_dense(
    a: Array, b: Array, x: Array, bounds: Array, *, definite: bool, limit: int | None = None
) -> Solved:  # fmt: skip
    """Solve ``A x = b`` for one dense matrix and write to ``x``.

    ``x <- x + F^-1 (b - A x)`` while the residual halves and is above its bound, with factors ``F`` of ``A``: in single
    precision first, which takes half the time of double and is enough for condition numbers up to about 1e7 (J. Langou,
    J. Langou, P. Luszczek, J. Kurzak, A. Buttari, J. Dongarra, *Exploiting the performance of 32 bit floating point
    arithmetic in obtaining 64 bit accuracy*, 2006); in double where that did not do; by LU where Cholesky says that the
    matrix is not definite.

    Args:
        a: Shape ``[n, n]``, finite.
        b: Right-hand sides in rows, shape ``[k, n]``.
        x: Starting points, shape ``[k, n]``; written in place.
        bounds: What each residual is to be at most, shape ``[k]``.
        definite: Whether to begin with Cholesky.
        limit: Of solves with factors; as many as help where not given.

    Returns:
        How it ended.
    """
    best = np.linalg.norm(b - x @ a.T, axis=1) if x.any() else np.linalg.norm(b, axis=1)
    if limit == 0 or (best <= bounds).all():
        return Solved(best, 0, 0, singular=False)
    steps = factorizations = 0
    usable = False
    for definite_now, single in _ways(a, definite, float((bounds / np.maximum(best, np.finfo(float).tiny)).min())):
        if usable and not definite_now and definite:
            break  # Cholesky in double did what can be done
        factorizations += 1
        factors = factorized(a, definite=definite_now, single=single)
        if factors is None:
            continue
        usable = usable or not single
        point = x.copy()
        r = b - point @ a.T if point.any() else b
        size = best
        while True:
            better = point + factors.solve(np.ascontiguousarray(r.T) if len(r) > 1 else r[0]).T
            remaining = b - better @ a.T
            steps += 1
            after = np.linalg.norm(remaining, axis=1)
            halved = bool((after < size / 2).any()) and bool(np.isfinite(after).all())
            if np.isfinite(after).all() and _worst(after, bounds) < _worst(best, bounds):
                best, x[:] = after, better
            if steps == limit or (best <= bounds).all():
                return Solved(best, steps, factorizations, singular=False)
            if not halved:
                break
            point, r, size = better, remaining, after
    return Solved(best, steps, factorizations, singular=not usable)


def _ways(a: Array, definite: bool, asked: float) -> Iterator[tuple[bool, bool]]:
    """Yield whether to use Cholesky, and whether in single precision, in the order to try."""
    single = len(a) >= SINGLE and np.finfo(a.dtype).dtype == np.float64 and asked > _attainable
    for cholesky in (True, False) if definite else (False,):
        if single:
            yield cholesky, True
        yield cholesky, False


def _worst(residuals: Array, bounds: Array) -> float:
    return float((residuals / np.maximum(bounds, np.finfo(float).tiny)).max())
