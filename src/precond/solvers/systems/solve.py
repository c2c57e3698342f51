"""The driver of square linear systems."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from precond.core import Iteration, Kernel, Operator, Preconditioner, Progress, Result, Status, Work
from precond.math.krylov.side import FEWEST, available
from precond.math.row_norms import row_norms
from precond.solvers.systems.certify import Certified, certify_system, is_least
from precond.solvers.systems.compatible import check_iteration, check_preconditioner
from precond.solvers.systems.counted import CountedOperator
from precond.solvers.systems.drive import Callback, drive
from precond.solvers.systems.setup import check_tolerances, iteration_limit, prepare, starting_points


@torch.no_grad()
def solve_linear(
    operator: Operator,
    b: Tensor,
    iteration: Iteration,
    preconditioner: Preconditioner[Any],
    *,
    rtol: float = 1e-8,
    atol: float = 0.0,
    max_iterations: int | None = None,
    x0: Tensor | None = None,
    callback: Callback | None = None,
    work: Work | None = None,
    name: str = "",
) -> Result:
    """Solve ``A x = b`` until ``||b - A x|| <= max(rtol ||b||, atol)``, recomputed, for each right-hand side.

    Args:
        operator: The matrix, square.
        b: Right-hand sides, shape ``[batch, n]``.
        iteration: The method.
        preconditioner: Fed with the operator once.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        max_iterations: Limit on iterations; ``None`` means ten times the size, at least 100.
        x0: Starting points, shape ``[batch, n]``; ``None`` means zero.
        callback: Called with an `Event` at the start and after each iteration; a true return value stops.
        work: The account to charge; a new one when not given.
        name: What the result says about the method; the names of the parts when empty.

    Returns:
        The result, ``x`` in rows ``[batch, n]``.

    Raises:
        IncompatibleError: The parts do not fit each other or the operator; found before the first product.
        BadInputError: A shape or a tolerance makes no sense.
    """
    work = work if work is not None else Work()
    check_iteration(operator, iteration)
    part = getattr(preconditioner, "part", preconditioner)
    check_preconditioner(operator, iteration, part)
    check_tolerances(rtol, atol, max_iterations)
    x = starting_points(operator, b, x0)
    counted = CountedOperator(operator, work)
    like = x[:1] if iteration.row_by_row else x
    prepared = prepare(preconditioner, counted, like, work, trivial=part.trivial)
    all_sides = iteration.side_by_side and operator.side_by_side and part.side_by_side
    if len(b) >= FEWEST and all_sides and available():
        b, x = b.mT.contiguous().mT, x.mT.contiguous().mT

    bounds = [max(rtol * size, atol) for size in row_norms(b)]

    kernel = Kernel(operator.compiled(), prepared.sweeps, work.charge) if len(b) == 1 and b.is_cpu else None

    def claims(progress: Progress, residuals: list[float], slack: float) -> bool:
        return all(residual <= slack * bound for residual, bound in zip(residuals, bounds, strict=True))

    def certify(x: Tensor) -> Certified:
        return certify_system(counted, b, x, rtol=rtol, atol=atol)

    begin = time.perf_counter()
    limit = iteration_limit(operator.shape[0], max_iterations)
    outcome = drive(
        iteration, counted, b, prepared.apply, x,
        claims=claims, certify=certify, max_iterations=limit, callback=callback, kernel=kernel, bound=max(bounds),
    )  # fmt: skip
    work.spend("iterate", time.perf_counter() - begin)
    method = name or f"{type(iteration).__name__} + {type(preconditioner).__name__}"
    method = f"{method}; {prepared.detail}" if prepared.detail else method
    status = outcome.status
    if status in (Status.FAILED_BREAKDOWN, Status.FAILED_STAGNATION, Status.STOPPED_STEPS) and is_least(
        counted, b, outcome.x
    ):
        status = Status.FAILED_INCONSISTENT
    return Result(outcome.x, status, outcome.certificate, work, outcome.iterations, method, outcome.history)
