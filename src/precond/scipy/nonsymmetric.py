"""``bicgstab`` and ``gcrotmk`` with the signatures of ``scipy.sparse.linalg``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import Iteration, Kernel, Look, Map, Operator, Progress
from precond.krylov import GCRODR, BiCGStab
from precond.krylov.deflated import Cycle, Directions
from precond.krylov.gcrodr import Recycled
from precond.krylov.process import found_by
from precond.scipy.common import Attempt, attempt_cycle
from precond.scipy.reading import read_system
from precond.scipy.running import as_array, checked, info_of, iterated, solved, whole
from precond.scipy.units import in_units
from precond.solvers.systems.drive import Event

Vector = np.ndarray[Any, Any]


@in_units
def bicgstab(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[Vector], object] | None = None,
) -> tuple[Vector, int]:
    """Solve ``A x = b`` with any square ``A``, by stabilized bi-conjugate gradients.

    >>> import numpy as np
    >>> bicgstab(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([3.0, 1.0]))[0].round(6)
    array([1., 1.])

    Args:
        A: A matrix, sparse or dense, or a ``LinearOperator``.
        b: Right-hand side, shape ``[n]`` or ``[n, 1]``.
        x0: Starting point; ``"Mb"`` means ``M b``, ``None`` means zero.
        rtol: Relative tolerance: ``||b - A x|| <= max(rtol ||b||, atol)``.
        atol: Absolute tolerance.
        maxiter: Limit on iterations, ``10 n`` if not given.
        M: Preconditioner, near the inverse of ``A``.
        callback: Called as ``callback(xk)`` after each iteration.

    Returns:
        The solution, shape ``[n]``, and 0 if it is one, else the number of iterations (SciPy: negative where it breaks
        down; here the process begins again).

    Raises:
        ValueError: Shapes that do not fit, or a negative tolerance.
    """
    system = read_system(A, b, x0, M)
    atol = checked("bicgstab", atol)
    if not system.right.any():
        return np.zeros_like(system.right), 0
    limit = whole("bicgstab", maxiter, 10 * system.n)
    return iterated(BiCGStab(), "stabilized", system, rtol, atol, limit, callback)


@in_units
def gcrotmk(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int = 1000,
    M: Any = None,
    callback: Callable[[Vector], object] | None = None,
    m: int = 20,
    k: int | None = None,
    CU: list[tuple[Vector | None, Vector]] | None = None,
    discard_C: bool = False,
    truncate: str = "oldest",
) -> tuple[Vector, int]:
    """Solve ``A x = b`` with any square ``A``, by GMRES cycles that keep a subspace, and hand it on in ``CU``.

    Where SciPy keeps the directions of the last outer steps, or those of largest singular values, this keeps harmonic
    Ritz vectors (GCRO-DR), which need fewer products.

    Args:
        A: A matrix, sparse or dense, or a ``LinearOperator``.
        b: Right-hand side, shape ``[n]`` or ``[n, 1]``.
        x0: Starting point; ``"Mb"`` means ``M b``, ``None`` means zero.
        rtol: Relative tolerance: ``||b - A x|| <= max(rtol ||b||, atol)``.
        atol: Absolute tolerance.
        maxiter: Limit on cycles, as SciPy's on outer iterations.
        M: Preconditioner, near the inverse of ``A``; it may change.
        callback: Called as ``callback(xk)`` after each cycle.
        m: Inner steps of a cycle.
        k: Directions kept at most, ``m`` if not given. A cycle has ``m + k`` vectors; without ``CU`` one in four of
            them is a direction: those of least Ritz value matter most, and each takes the place of a step.
        CU: Pairs ``(c, u)`` with ``c = A u``, or ``(None, u)``, to begin with; on return, those kept. A list that is
            empty or from another system will do.
        discard_C: Return ``None`` for each ``c``, as for a sequence of systems.
        truncate: ``"oldest"`` or ``"smallest"``; accepted, and the same here.

    Returns:
        The solution, shape ``[n]``, and 0 if it is one, else the limit reached or the number of iterations. A solution
        found in the last cycle that ``maxiter`` allows gives ``maxiter``, as in SciPy, which looks at the start of a
        cycle.

    Raises:
        ValueError: Shapes that do not fit, a negative tolerance, or an unknown ``truncate``.
    """
    if truncate not in ("oldest", "smallest"):
        raise ValueError(f"Invalid value for 'truncate': {truncate!r}")
    system = read_system(A, b, x0, M)
    atol = checked("gcrotmk", atol)
    given = [] if CU is None else CU
    if not system.right.any():
        return np.zeros_like(system.right), 0
    size = m + (m if k is None else k)
    keep = size - m if CU is not None else min(size - m, max(1, size // 4))
    first = min(size, system.n + 1)  # steps of the first cycle, which has no directions yet
    maxiter = whole("gcrotmk", maxiter, 1000)
    limit = 0 if maxiter <= 0 else first + (maxiter - 1) * (size - keep)
    memory, tried = _given(given, system.b, keep), Attempt()
    if callback is None and not given and maxiter > 1 and size > 0:
        tried, cycle = attempt_cycle(system, rtol, atol, first)
        if cycle is not None:
            made = found_by(cycle, Directions.none(system.b))
            memory = Recycled({0: dataclasses.replace(made, current=True)})
            system = system.at(tried.x)
    calls, last = 0, -1

    def watch(event: Event) -> None:
        nonlocal calls, last
        if (
            callback is not None
            and calls < maxiter
            and event.iteration in (0, *range(first, event.iteration + 1, size - keep))
        ):
            calls, last = calls + 1, event.iteration
            callback(as_array(event.solution()))

    if tried.info is None:
        iteration = _Keeping(GCRODR(size=size, keep=keep), memory)
        outcome = solved(iteration, system, rtol, atol, limit - tried.done, None if callback is None else watch)
        x, code, done = as_array(outcome.x), info_of(outcome, limit), tried.done + outcome.iterations
        if callback is not None and calls < maxiter and outcome.iterations > last:
            callback(as_array(outcome.x))
    else:
        (x, code), done = tried.ended, tried.done
    if CU is not None:
        CU[:] = _kept(memory, keep, discard_C) or [(None if discard_C else c, u) for c, u in given]
    cycles = 1 + max(0, -(-(done - first) // (size - keep))) if done else 0
    return x, max(1, maxiter) if cycles >= maxiter or (code and done >= limit) else code


def _given(pairs: list[tuple[Vector | None, Vector]], b: Tensor, keep: int) -> Recycled:
    """Return a memory that holds the directions of a list of pairs."""
    usable = [np.asarray(u) for _, u in pairs if np.shape(u) == (b.shape[1],)][-keep:] if keep else []
    if not usable:
        return Recycled()
    u = torch.from_numpy(np.stack(usable)).to(b.dtype)
    return Recycled({0: Cycle(Directions(u, u, u), u, u, np.zeros((0, 0)))})


def _kept(memory: Recycled, keep: int, discard_images: bool) -> list[tuple[Vector | None, Vector]]:
    """Return what a memory holds as a list of pairs."""
    if 0 not in memory.cycles:
        return []
    found = memory.cycles[0].deflated(keep)
    return [(None if discard_images else c.numpy(), u.numpy()) for c, u in zip(found.c, found.u, strict=True)]


class _Keeping(Iteration):
    """GCRO-DR with a memory; no part: it is mutable."""

    fixed_preconditioner = False

    def __init__(self, inner: GCRODR, memory: Recycled) -> None:
        self.inner, self.memory = inner, memory

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        return self.inner.recycle(self.memory, operator, b, precondition, x0)

    def ahead(
        self, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        return self.inner.recycle_ahead(self.memory, kernel, look, operator, b, precondition, x0)
