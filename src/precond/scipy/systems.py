"""``cg``, ``minres`` and ``gmres`` with the signatures of ``scipy.sparse.linalg``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from precond.core import Status
from precond.krylov import CG, GMRES, MINRES
from precond.scipy.common import LEAST, MOST, Attempt, attempt, attempt_cycles
from precond.scipy.left import LeftGMRES
from precond.scipy.reading import System, read_system
from precond.scipy.running import as_array, checked, each, info_of, iterated, solved, whole
from precond.scipy.units import in_units
from precond.solvers.systems.certify import estimated_frobenius_norm
from precond.solvers.systems.drive import Event, Outcome


@in_units
def cg(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[np.ndarray[Any, Any]], object] | None = None,
) -> tuple[np.ndarray[Any, Any], int]:
    """Solve ``A x = b`` with ``A`` Hermitian positive definite, by conjugate gradients.

    >>> import numpy as np
    >>> cg(np.diag([1.0, 2.0]), np.ones(2))
    (array([1. , 0.5]), 0)

    Args:
        A: A matrix, sparse or dense, or a ``LinearOperator``.
        b: Right-hand side, shape ``[n]`` or ``[n, 1]``.
        x0: Starting point; ``"Mb"`` means ``M b``, ``None`` means zero.
        rtol: Relative tolerance: ``||b - A x|| <= max(rtol ||b||, atol)``.
        atol: Absolute tolerance.
        maxiter: Limit on iterations, ``10 n`` if not given.
        M: Preconditioner, near the inverse of ``A``, Hermitian positive definite.
        callback: Called as ``callback(xk)`` after each iteration.

    Returns:
        The solution, shape ``[n]``, and 0 if it is one, else the number of iterations.

    Raises:
        ValueError: Shapes that do not fit, or a negative tolerance.
    """
    system = read_system(A, b, x0, M)
    if not system.right.any():
        return np.zeros_like(system.right), 0
    limit = whole("cg", maxiter, 10 * system.n)
    return iterated(CG(), "conjugate", system, rtol, checked("cg", atol), limit, callback)


@in_units
def minres(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-5,
    shift: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[np.ndarray[Any, Any]], object] | None = None,
    show: bool = False,
    check: bool = False,
) -> tuple[np.ndarray[Any, Any], int]:
    """Solve ``(A - shift I) x = b`` with ``A`` symmetric, definite or not, by minimum residuals.

    Args:
        A: A matrix, sparse or dense, or a ``LinearOperator``.
        b: Right-hand side, shape ``[n]`` or ``[n, 1]``.
        x0: Starting point; ``"Mb"`` means ``M b``, ``None`` means zero.
        rtol: Relative tolerance: ``||b - A x|| <= rtol ||b||``, or ``||A r|| <= rtol ||A||_F ||r||`` where the system
            is singular and has no solution.
        shift: Subtracted from the diagonal.
        maxiter: Limit on iterations, ``5 n`` if not given.
        M: Preconditioner, near the inverse of ``A``, symmetric positive definite.
        callback: Called as ``callback(xk)`` after each iteration.
        show: Print a summary.
        check: Check first that ``A`` and ``M`` are symmetric.

    Returns:
        The solution, shape ``[n]``, and 0 if it is one, else the number of iterations.

    Raises:
        ValueError: Shapes that do not fit, a preconditioner that is not definite, or an asymmetry found by ``check``.
    """
    system = read_system(A, b, x0, M, shift)
    if not system.right.any():
        return np.zeros_like(system.right), 0
    if check:
        _check_symmetric(system)
    limit = whole("minres", maxiter, 5 * system.n)
    tried = Attempt() if show or callback is not None else attempt("minimum_residual", system, rtol, 0.0, limit)
    if tried.info is not None:
        return tried.ended
    outcome = solved(MINRES(), system.at(tried.x), rtol, 0.0, limit - tried.done, each(callback))
    if outcome.status is Status.FAILED_INDEFINITE_PRECONDITIONER:
        raise ValueError("indefinite preconditioner")
    info = info_of(outcome, limit)
    if outcome.status in (Status.FAILED_BREAKDOWN, Status.FAILED_STAGNATION) and _is_stationary(system, outcome, rtol):
        info = 0
    if show:
        certificate = outcome.certificate
        sys.stdout.write(
            f"minres: n = {system.n}, shift = {shift:g}, {outcome.iterations} iterations, {certificate.quantity} = "
            f"{certificate.value:.2e} (asked {rtol:.2e}), info = {info}\n"
        )
    return as_array(outcome.x), info


@in_units
def gmres(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    restart: int | None = None,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[Any], object] | None = None,
    callback_type: str | None = None,
) -> tuple[np.ndarray[Any, Any], int]:
    """Solve ``A x = b`` with any square ``A``, by restarted generalized minimum residuals.

    Args:
        A: A matrix, sparse or dense, or a ``LinearOperator``.
        b: Right-hand side, shape ``[n]`` or ``[n, 1]``.
        x0: Starting point; ``"Mb"`` means ``M b``, ``None`` means zero.
        rtol: Relative tolerance: ``||b - A x|| <= max(rtol ||b||, atol)``.
        atol: Absolute tolerance.
        restart: Iterations of a cycle, at most ``n``; 20 if not given.
        maxiter: Limit on cycles, ``10 n`` if not given; on iterations with a callback of type ``"legacy"``.
        M: Preconditioner, near the inverse of ``A``.
        callback: Called as ``callback(xk)`` or ``callback(norm)``, see ``callback_type``.
        callback_type: ``"x"``, the iterate after each cycle; ``"pr_norm"``, the relative residual norm after each
            iteration; ``"legacy"`` (if not given), the same, and ``maxiter`` counts iterations.

    Returns:
        The solution, shape ``[n]``, and 0 if it is one, else the limit reached or the number of iterations.

    Raises:
        ValueError: Shapes that do not fit, a negative tolerance, or an unknown ``callback_type``.
    """
    if callback is not None and callback_type is None:
        warnings.warn(
            "gmres called without specifying `callback_type`: the default will change; write callback_type='pr_norm', "
            "or 'legacy' to keep what it does now",
            DeprecationWarning,
            stacklevel=2,
        )
    kind = "legacy" if callback_type is None else callback_type
    if kind not in ("x", "pr_norm", "legacy"):
        raise ValueError(f"Unknown callback_type: {callback_type!r}")
    system = read_system(A, b, x0, M)
    atol = checked("gmres", atol)
    if not system.right.any():
        return np.zeros_like(system.right), 0
    cycle = min(20 if restart is None else restart, system.n)
    limit = whole("gmres", maxiter, 10 * system.n)
    steps = limit if callback is not None and kind == "legacy" else limit * cycle
    tried = Attempt() if callback is not None else attempt_cycles(system, rtol, atol, cycle, steps)
    if tried.info is not None:
        x, info = tried.ended
        return x, max(1, limit) if info else 0
    system, steps = system.at(tried.x), steps - tried.done
    size = float(torch.linalg.vector_norm(system.b))
    last = 0

    def watch(event: Event) -> None:
        nonlocal last
        if callback is None or event.iteration == 0:
            return
        if kind != "x":
            callback(np.float64(event.residual / size))
        elif event.iteration % cycle == 0:
            last = event.iteration
            callback(as_array(event.solution()))

    left = M is not None
    iteration = LeftGMRES(restart=cycle) if left else GMRES(restart=cycle)
    outcome = solved(iteration, system, rtol, atol, steps, watch, left=left)
    if callback is not None and kind == "x" and outcome.iterations > last:
        callback(as_array(outcome.x))
    code = info_of(outcome, steps)
    return as_array(outcome.x), max(1, limit) if code and outcome.iterations >= steps else code


def _is_stationary(system: System, outcome: Outcome, rtol: float) -> bool:
    """Whether ``||A r|| <= rtol ||A||_F ||r||``: a least-squares solution of a singular symmetric system."""
    r = system.b - system.operator.matvec(outcome.x)
    gradient = float(torch.linalg.vector_norm(system.operator.matvec(r / torch.linalg.vector_norm(r))))
    scale = estimated_frobenius_norm(system.operator)
    return LEAST < scale < MOST and gradient <= rtol * scale  # beyond, squares are lost, and nothing is known


def _check_symmetric(system: System) -> None:
    """Compare ``<A y, y'>`` both ways on Krylov vectors, for the matrix and the preconditioner."""
    for what, apply in (("matrix", system.operator.matvec), ("preconditioner", system.precondition)):
        y = apply(system.b)
        z = apply(y)
        gap = abs(float((y * y).sum() - (system.b * z).sum()))
        eps = torch.finfo(y.dtype).eps
        if gap > (float((y * y).sum()) + eps) * eps ** (1 / 3):
            raise ValueError(f"non-symmetric {what}")
