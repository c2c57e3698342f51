"""Linear systems and least squares in one call: ``precond.solve`` and ``precond.lstsq``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.batches import is_batch, solve_batch
from precond.core import BadInputError, Builds, Iteration, Kind, Operator, Preconditioner, Result, Status, Work
from precond.operators import as_operator
from precond.recipes.named import (
    build_iteration,
    build_preconditioner,
    canonical_method,
    canonical_preconditioner,
    find_part,
    name_of,
)
from precond.solvers.adjoint import wants_gradient, with_gradient
from precond.solvers.adjoint_lstsq import check_shape_for_gradient, with_least_squares_gradient
from precond.solvers.certify import excess
from precond.solvers.choose import Attempt, Selection, choose_least_squares, choose_system
from precond.solvers.compatible import check_adjoint, check_iteration, check_preconditioner, check_symmetric
from precond.solvers.drive import Callback, Event
from precond.solvers.forms import Form, read_vectors
from precond.solvers.held import Held
from precond.solvers.lstsq import solve_least_squares
from precond.solvers.negative import of_negative
from precond.solvers.setup import check_callback
from precond.solvers.solve import solve_linear


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
        A, b, method, preconditioner, x0, callback, Kind.LINEAR_SYSTEM, choose_system, solve_linear, limits
    )
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
    method, whatever the tolerance. Gradients flow through the solution to ``A`` and ``b``, by one solve of the normal
    equations, when ``A`` has full column rank.

    >>> import numpy as np
    >>> result = lstsq(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([1.0, 2.0, 3.0]))
    >>> result.converged, result.x.round(6)
    (True, array([1., 1.]))

    Args:
        A: What `solve` takes, of shape ``[m, n]``; an operator needs ``rmatvec``.
        b: One right-hand side ``[m]``, or ``k`` of them as columns ``[m, k]``; NumPy or torch.
        method: ``"auto"``, the name of an iteration ("lsqr", "lsmr", "spir", "fossils", "iterative-sketching",
            "sketch-precondition") or an `Iteration`.
        preconditioner: ``"auto"``, a name ("sketch-qr", "jacobi") or a `Preconditioner` of ``A^H A``.
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


@dataclasses.dataclass(frozen=True)
class Run:
    """A result with what it was made by."""

    result: Result
    operator: Operator
    iteration: Iteration
    held: Held


def run_attempts(
    A: Any,
    b: Any,
    method: str | Iteration,
    preconditioner: str | Preconditioner[Any],
    x0: Any,
    callback: Callback | None,
    kind: Kind,
    choose: Callable[[Operator], Selection],
    driver: Callable[..., Result],
    limits: dict[str, Any],
) -> Run:
    """Read the problem, resolve names, run the driver (again with the fallback if the choice met its limits)."""
    rows, form = read_vectors(b, "b")
    operator = as_operator(A, dtype=rows.dtype)
    rows = match(rows, operator, "b")
    start = None if x0 is None else match(read_vectors(x0, "x0")[0], operator, "x0")

    work, failures = Work(), list[str]()
    rows, start, unit = _scaled(rows, start, limits)
    limit = limits.pop("max_iterations")
    best: Result | None = None
    attempts, reason = _attempts(operator, method, preconditioner, kind, choose)
    for index, (iteration, part, label, patience) in enumerate(attempts):
        why = f"{failures[-1]} did not converge" if failures else reason
        later = index + 1 < len(attempts)
        held = Held(part)
        if index == 0 and kind is Kind.LINEAR_SYSTEM:
            _check_products(operator, iteration, part, work)
        result = driver(
            operator, rows, iteration, held, x0=start, work=work, name=f"{label} ({why})" if why else label,
            callback=_in_form(callback, form), **limits,
            max_iterations=min(patience, 10 * operator.shape[0]) if patience and limit is None else limit,
        )  # fmt: skip
        if best is None or result.converged or excess(result.certificate) < excess(best.certificate):
            best = result
        if not later or result.converged or (result.status.group == "stopped" and not _worth_more(result, limit)):
            break
        if result.status is Status.FAILED_INCONSISTENT:
            break
        failures.append(label)
    assert best is not None
    if unit != 1:
        best = dataclasses.replace(best, x=best.x * unit)
        if best.converged and not bool(torch.isfinite(best.x).all()):
            best = dataclasses.replace(best, status=Status.FAILED_NON_FINITE)
    result = dataclasses.replace(best, x=form.restore(best.x))
    return Run(result, operator, iteration, held)


def _check_products(operator: Operator, iteration: Iteration, part: Preconditioner[Any], work: Work) -> None:
    """Refuse an operator known by products alone that is declared symmetric and is not; two products."""
    known = operator.dense() is not None or operator.has_entries
    if operator.traits.symmetric and not known:
        check_iteration(operator, iteration)
        check_preconditioner(operator, iteration, part)
        check_symmetric(operator, work)


_extreme = 1e100


def _scaled(rows: Tensor, start: Tensor | None, limits: dict[str, Any]) -> tuple[Tensor, Tensor | None, float]:
    """Return right-hand sides and starting points in a unit in which squares neither overflow nor vanish, and it."""
    largest = float(torch.linalg.vector_norm(rows, torch.inf))
    if largest == 0 or 1 / _extreme < largest < _extreme:
        return rows, start, 1.0
    unit = 2.0 ** math.floor(math.log2(largest))
    limits["atol"] = limits["atol"] / unit
    return rows / unit, None if start is None else start / unit, unit


def _worth_more(result: Result, limit: int | None) -> bool:
    """Whether a run that was stopped was stopped by our patience alone, not by the user."""
    return result.status is Status.STOPPED_STEPS and limit is None


def _attempts(
    operator: Operator,
    method: str | Iteration,
    preconditioner: str | Preconditioner[Any],
    kind: Kind,
    choose: Callable[[Operator], Selection],
) -> tuple[list[tuple[Iteration, Preconditioner[Any], str, int]], str]:
    """Return what to try in turn, each with its name, and why the first of them."""
    method, preconditioner = canonical_method(method, kind), canonical_preconditioner(preconditioner)
    if "auto" not in (method, preconditioner):
        iteration, part = build_iteration(method, kind), build_preconditioner(preconditioner)
        return [(iteration, part, f"{name_of(method)} + {name_of(preconditioner)}", 0)], ""
    companion = _companion(method, kind) if preconditioner == "auto" else ""
    if companion:
        together = (build_iteration(method, kind), build_preconditioner(companion), f"{method} + {companion}", 0)
        return [together], "published together"
    selection = choose(operator)
    found: list[tuple[Iteration, Preconditioner[Any], str, int]] = []
    names: list[str] = []
    for attempt in selection.attempts:
        if attempt.together and not _fits(attempt, method, preconditioner):
            continue
        if attempt.negative and method != "auto":
            continue
        if attempt.unasked and not method == preconditioner == "auto":
            continue
        first = attempt.method if method == "auto" else method
        second = attempt.preconditioner if preconditioner == "auto" else preconditioner
        iteration = build_iteration(first, kind)
        if preconditioner == "auto" and not iteration.preconditioned:
            second = "identity"
        part = build_preconditioner(second)
        name = f"{name_of(first)} + {name_of(second)}"
        if preconditioner == "auto" and attempt.settings and second == attempt.preconditioner:
            part = dataclasses.replace(part, **attempt.settings)  # type: ignore[type-var]  # parts are dataclasses
            name += f"({', '.join(f'{key}={value:g}' for key, value in attempt.settings.items())})"
        unfit = iteration.symmetric_preconditioner and not (part.traits.symmetric and part.traits.definite)
        if attempt.negative and not unfit:
            (iteration, part), name = of_negative(iteration, part), f"{name} of -A"
        last = attempt is selection.attempts[-1] and not found  # the driver refuses it, and says why
        if name not in names and (last or not unfit):
            names.append(name)
            alone = method != "auto" and preconditioner == "auto"  # the user's iteration: as long as it takes
            found.append((iteration, part, name, 0 if alone else attempt.patience))
        if method != "auto" and preconditioner == "auto" and found:
            break
    return found, selection.reason


def _fits(attempt: Attempt, method: str | Iteration, preconditioner: str | Preconditioner[Any]) -> bool:
    """Whether what the user named is what an attempt has."""
    return method in ("auto", attempt.method) and preconditioner in ("auto", attempt.preconditioner)


def _companion(method: str | Iteration, kind: Kind) -> str:
    """Return the name of the preconditioner that an iteration is published with; empty when there is none."""
    if not isinstance(method, str) or method == "auto":
        return ""
    return find_part(method, Builds.ITERATION, kind, "method").companion


def match(rows: Tensor, operator: Operator, what: str) -> Tensor:
    """Return vectors in the operator's type; refuse those of another device, or complex ones for a real operator."""
    if rows.device != operator.device:
        raise BadInputError(f"{what} is on {rows.device}, the matrix on {operator.device}: move one of them")
    if rows.is_complex() and not operator.dtype.is_complex:
        raise BadInputError(
            f"{what} is complex, the operator has {operator.dtype}: give a complex operator, or solve for the real and "
            "imaginary parts as two right-hand sides"
        )
    return rows.to(operator.dtype)


def _in_form(callback: Callback | None, form: Form) -> Callback | None:
    """Return the callback with solutions in the form of the problem."""
    check_callback(callback)
    if callback is None:
        return None

    def restored(event: Event) -> object:
        return callback(Event(event.iteration, event.residual, lambda: form.restore(event.solution())))

    return restored


__all__ = ["Event", "lstsq", "solve"]
