"""How the functions with SciPy's names run an iteration, and what they make of how it ended."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from precond.core import BadInputError, Iteration, Progress, Status
from precond.scipy.common import Attempt, attempt
from precond.scipy.left import LeftProgress
from precond.scipy.reading import System
from precond.solvers.systems.certify import Certified, certify_system, excess
from precond.solvers.systems.drive import Event, Outcome, drive


def iterated(
    iteration: Iteration,
    loops: str,
    system: System,
    rtol: float,
    atol: float,
    maxiter: int,
    callback: Callable[[np.ndarray[Any, Any]], object] | None,
) -> tuple[np.ndarray[Any, Any], int]:
    """Return what an iteration does, by its compiled loops alone where nothing happens that a driver must see."""
    tried = Attempt() if callback is not None else attempt(loops, system, rtol, atol, maxiter)
    if tried.info is not None:
        return tried.ended
    outcome = solved(iteration, system.at(tried.x), rtol, atol, maxiter - tried.done, each(callback))
    return as_array(outcome.x), info_of(outcome, maxiter)


def solved(
    iteration: Iteration,
    system: System,
    rtol: float,
    atol: float,
    maxiter: int,
    callback: Callable[[Event], object] | None,
    left: bool = False,
) -> Outcome:
    """Run the iteration until the recomputed residual is small enough.

    From the left, the residual of the iteration is ``M r``. The bound for that is scaled by
    ``||M b|| / ||b||`` at first, then by what the last recomputed residual showed to be missing. Where that does not
    halve from one to the next, the iteration has lost sight of it, and begins again from where it is.
    """
    size = float(torch.linalg.vector_norm(system.b))
    bound = asked = max(rtol * size, atol)
    if left:
        bound *= float(torch.linalg.vector_norm(system.precondition(system.b))) / size

    found: list[tuple[torch.Tensor, Certified]] = []  # the last

    def certify(x: torch.Tensor) -> Certified:
        if not (found and found[0][0] is x):
            found[:] = [(x, certify_system(system.operator, system.b, x, rtol=rtol, atol=atol))]
        return found[0][1]

    first, last = bound, math.inf

    def claims(progress: Progress, residuals: list[float], slack: float) -> bool:
        nonlocal bound, last
        own = residuals[0]
        if isinstance(progress, LeftProgress) and progress.began <= slack * asked:
            return True
        if own > slack * bound or not left:
            return own <= slack * bound
        missing = excess(certify(progress.solution())[0])
        lost = missing > last / 2
        bound, last = (first, math.inf) if lost else (min(bound, 0.5 * own / max(missing, 1)), missing)
        return missing <= 1 or lost

    with torch.no_grad():
        outcome = drive(
            iteration, system.operator, system.b, system.precondition, system.x0,
            claims=claims, certify=certify, max_iterations=maxiter, callback=callback,
            kernel=None if left else system.kernel, bound=None if left else bound,
        )  # fmt: skip
    if outcome.status is Status.STOPPED_INTERRUPT:  # which SciPy's functions do not return from
        raise KeyboardInterrupt
    return outcome


def each(callback: Callable[[np.ndarray[Any, Any]], object] | None) -> Callable[[Event], object] | None:
    """Return the callback on iterates after each iteration; what it returns is ignored, as SciPy does."""
    if callback is None:
        return None

    def watch(event: Event) -> None:
        if event.iteration > 0:
            callback(as_array(event.solution()))

    return watch


def checked(name: str, atol: Any) -> float:
    """Refuse an absolute tolerance that is not a number or negative."""
    if isinstance(atol, str) or atol is None or atol < 0:
        raise ValueError(f"{name} called with invalid `atol`={atol}: give a real, non-negative number")
    return float(atol)


def whole(name: str, maxiter: Any, default: int) -> int:
    """Return a limit on iterations, or the default for ``None``; refuse what is not a whole number."""
    try:
        return default if maxiter is None else operator.index(maxiter)
    except TypeError as error:
        raise BadInputError(f"{name} called with maxiter={maxiter!r}: give a whole number, or None") from error


def info_of(outcome: Outcome, maxiter: int) -> int:
    """Return 0 where the certificate holds, else a positive number of iterations."""
    if outcome.status.group == "converged":
        return 0
    return max(1, maxiter if outcome.status is Status.STOPPED_STEPS else outcome.iterations)


def as_array(x: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return the only row as a NumPy vector of its own."""
    return x.numpy()[0].copy()
