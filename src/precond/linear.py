"""Linear systems and least squares in one call: ``precond.solve`` and ``precond.lstsq``."""

from __future__ import annotations

import dataclasses
from typing import Any

from precond.attempts import run_attempts
from precond.batches import is_batch, solve_batch
from precond.core import Iteration, Kind, Preconditioner, Result
from precond.solvers.systems.adjoint import wants_gradient, with_gradient
from precond.solvers.systems.adjoint_lstsq import check_shape_for_gradient, with_least_squares_gradient
from precond.solvers.systems.choose import choose_system
from precond.solvers.systems.choose_least_squares import choose_least_squares
from precond.solvers.systems.compatible import check_adjoint
from precond.solvers.systems.drive import Callback, Event
from precond.solvers.systems.lstsq import solve_least_squares
from precond.solvers.systems.solve import solve_linear


def solve(
    A: Any,
    b: Any,
    *,
    method: str | Iteration = "auto",
    preconditioner: str | Preconditioner[Any] = "auto",
    rtol: float = 1e-8,
    atol: float = 0.0,
    max_iterations: int | None = None,
    x0: Any = None,
    callback: Callback | None = None,
) -> Result:
    """Solve the square system ``A x = b``.

    The result is converged when ``||b - A x|| <= max(rtol ||b||, atol)`` holds for each right-hand side, recomputed
    from ``A`` and ``b`` in double precision. Gradients flow through the solution to ``A`` (a dense, COO or CSR
    tensor) and ``b``, by one solve with the adjoint matrix and the adjoint preconditioner.

    >>> import numpy as np
    >>> result = solve(np.diag([1.0, 2.0, 4.0]), np.ones(3))
    >>> result.converged, result.x
    (True, array([1.  , 0.5 , 0.25]))

    Args:
        A: A dense or sparse torch tensor, a NumPy array, a SciPy sparse matrix or LinearOperator, or an `Operator`; or
            a batch of dense matrices ``[members, n, n]``, each a system of its own.
        b: One right-hand side ``[n]``, or ``k`` of them as columns ``[n, k]``; NumPy or torch. For a batch
            ``[members, n]`` or ``[members, n, k]``.
        method: ``"auto"``, the name of an iteration ("cg", "block-cg", "minres", "gmres", "fgmres", "gcrodr",
            "bicgstab", "idr", "chebyshev", "richardson", "sor") or an `Iteration`.
        preconditioner: ``"auto"``, a name ("identity", "jacobi", "block-jacobi", "ssor", "ic0", "ict", "ilu0", "milu0",
            "ilut", "amg", "ruge-stuben", "schwarz", "circulant", "tau", "lu", "pseudo-inverse") or a `Preconditioner`.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        max_iterations: Limit on iterations; ``None`` means ten times the size, at least 100. For a member of a batch
            that is factorized, a limit on solves with the factors; ``None`` means as many as help.
        x0: Starting point, shaped like ``b``; ``None`` means zero.
        callback: Called at the start and after each iteration with an `Event`; a true return value stops. For a batch
            called when members are done, with their number.

    Returns:
        The result; ``x`` is shaped like ``b``, NumPy or torch as ``b`` is.

    Raises:
        BadInputError: An argument cannot be used as it is.
        IncompatibleError: Matrix, method and preconditioner do not fit; found before the first product.
        UnknownNameError: A name that no recipe has.
    """
    limits: dict[str, Any] = {"rtol": rtol, "atol": atol, "max_iterations": max_iterations}
    if is_batch(A):
        return solve_batch(A, b, method=method, preconditioner=preconditioner, x0=x0, callback=callback, **limits)
    differentiate = wants_gradient(A, b)
    run = run_attempts(
        A, b, method, preconditioner, x0, callback, Kind.LINEAR_SYSTEM, choose_system, solve_linear, limits,
        reorder=not differentiate,
    )  # fmt: skip
    if not differentiate:
        return run.result
    if run.operator.has_adjoint and not run.operator.traits.symmetric and not run.operator.has_entries:
        check_adjoint(run.operator, run.result.work)
    x = with_gradient(run.result.x, A, b, run.operator, run.iteration, run.held, rtol, atol)
    return dataclasses.replace(run.result, x=x)


def lstsq(
    A: Any,
    b: Any,
    *,
    method: str | Iteration = "auto",
    preconditioner: str | Preconditioner[Any] = "auto",
    rtol: float = 1e-8,
    atol: float = 0.0,
    max_iterations: int | None = None,
    x0: Any = None,
    callback: Callback | None = None,
) -> Result:
    """Minimize ``||b - A x||`` for ``A`` of any shape.

    The result is converged when ``||A^H r|| <= rtol ||A||_F ||r||`` or ``||r|| <= max(rtol ||b||, atol)`` holds for
    each right-hand side with ``r = b - A x``, recomputed in double precision; or, where a sketch of ``A`` is at hand,
    when the relative backward error is at most ``rtol``. Tall dense problems are solved to the accuracy of a direct
    method, whatever the tolerance. Of many solutions, ``"auto"`` finds the one of least norm, except of tall sparse
    problems too large to be factored whose columns differ by more than a factor of 100 in norm. Gradients flow through
    the solution to ``A`` and ``b``, by one solve of the normal equations, when ``A`` has full column rank.

    >>> import numpy as np
    >>> result = lstsq(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([1.0, 2.0, 3.0]))
    >>> result.converged, result.x.round(6)
    (True, array([1., 1.]))

    Args:
        A: What `solve` takes, of shape ``[m, n]``; an operator needs ``rmatvec``.
        b: One right-hand side ``[m]``, or ``k`` of them as columns ``[m, k]``; NumPy or torch.
        method: ``"auto"``, the name of an iteration ("lsqr", "lsmr", "spir", "fossils", "iterative-sketching",
            "sketch-precondition") or an `Iteration`.
        preconditioner: ``"auto"``, a name ("sketch-qr", "qr", "jacobi") or a `Preconditioner` of ``A^H A``.
        rtol: Relative tolerance.
        atol: Absolute tolerance of the residual.
        max_iterations: Limit on iterations; ``None`` means ten times the smaller dimension, at least 100.
        x0: Starting point, shape ``[n]`` or ``[n, k]``; ``None`` means zero.
        callback: Called at the start and after each iteration with an `Event`; a true return value stops.

    Returns:
        The result; ``x`` has shape ``[n]`` or ``[n, k]``, NumPy or torch as ``b`` is.

    Raises:
        BadInputError: An argument cannot be used as it is.
        IncompatibleError: Matrix, method and preconditioner do not fit; found before the first product.
        UnknownNameError: A name that no recipe has.
    """
    differentiate = wants_gradient(A, b)
    run = run_attempts(
        A, b, method, preconditioner, x0, callback, Kind.LEAST_SQUARES, choose_least_squares, solve_least_squares,
        {"rtol": rtol, "atol": atol, "max_iterations": max_iterations},
    )  # fmt: skip
    if not differentiate:
        return run.result
    check_shape_for_gradient(run.operator)
    x = with_least_squares_gradient(run.result.x, A, b, run.operator, run.held, rtol, atol)
    return dataclasses.replace(run.result, x=x)


__all__ = ["Event", "lstsq", "solve"]
