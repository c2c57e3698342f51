"""The driver of linear least-squares problems."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import torch
from torch import Tensor

from precond.core import IncompatibleError, Iteration, Kernel, Operator, Preconditioner, Progress, Result, Work
from precond.operators import GramOperator
from precond.solvers.systems.certify import Certified, estimated_frobenius_norm
from precond.solvers.systems.certify_lstsq import (
    Measured,
    certify_least_squares,
    judge_least_squares,
    measure_least_squares,
)
from precond.solvers.systems.compatible import check_adjoint, check_iteration, check_preconditioner
from precond.solvers.systems.counted import CountedOperator
from precond.solvers.systems.drive import Callback, drive
from precond.solvers.systems.setup import check_tolerances, iteration_limit, prepare, starting_points

_stable = 4.0  # backward error, in units of the machine epsilon, that an iteration which ends by itself is sent to
_tall = 16  # rows for each column from which an estimate of the backward error costs little beside a factorization


@torch.no_grad()
def solve_least_squares(
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
    """Minimize ``||b - A x||`` until a recomputed residual proves it.

    For each right-hand side, ``||A^H r|| <= rtol ||A||_F ||r||`` or ``||r|| <= max(rtol ||b||, atol)``; the second is
    for consistent systems, where the first says nothing. With a preconditioner that is near to the inverse, such as a
    sketch, a relative backward error of at most ``rtol`` counts as well. An iteration that ends by itself is run, and
    started again from where it is, until that error is a few units of rounding.

    The operator may have any shape ``[m, n]`` and must have an adjoint; the preconditioner approximates ``(A^H A)^-1``
    and is fed with the Gram operator.

    Args:
        operator: The matrix, shape ``[m, n]``.
        b: Right-hand sides, shape ``[batch, m]``.
        iteration: The method.
        preconditioner: Fed with ``A^H A`` once.
        rtol: Relative tolerance, of both quantities.
        atol: Absolute tolerance of the residual.
        max_iterations: Limit on iterations; ``None`` means ten times the smaller dimension, at least 100.
        x0: Starting points, shape ``[batch, n]``; ``None`` means zero.
        callback: Called with an `Event` at the start and after each iteration; a true return value stops.
        work: The account to charge; a new one when not given.
        name: What the result says about the method; the names of the parts when empty.

    Returns:
        The result, ``x`` in rows ``[batch, n]``.

    Raises:
        IncompatibleError: The parts do not fit each other or the operator; found before the first product.
        BadInputError: A shape or a tolerance makes no sense, or the adjoint given is not one.
    """
    work = work if work is not None else Work()
    if iteration.square:
        raise IncompatibleError(f"{type(iteration).__name__} solves square systems: use method='lsqr' or precond.solve")
    check_iteration(operator, iteration)
    gram = GramOperator(operator)
    check_preconditioner(gram, iteration, getattr(preconditioner, "part", preconditioner))
    check_tolerances(rtol, atol, max_iterations)
    x = starting_points(operator, b, x0)
    counted = CountedOperator(operator, work)
    if operator.frobenius_norm() is None:
        check_adjoint(operator, work)
    matrix_norm = estimated_frobenius_norm(counted)
    prepared = prepare(preconditioner, GramOperator(counted), x, work)
    start = None if x0 is not None else prepared.guess(b)
    if start is not None:
        x = torch.where(b.any(dim=-1, keepdim=True) & torch.isfinite(start).all(dim=-1, keepdim=True), start, 0)
    goal = rtol
    if iteration.finishes and prepared.inverse is not None:
        goal = min(rtol, _stable * torch.finfo(b.dtype).eps)

    bounds = torch.clamp(rtol * torch.linalg.vector_norm(b, dim=-1), min=atol).tolist()

    def claims(progress: Progress, residuals: list[float], slack: float) -> bool:
        if iteration.finishes:
            return False
        normals = [math.inf] * len(residuals) if progress.normal is None else progress.normal.tolist()
        return all(
            residual <= slack * bound or normal <= slack * rtol * matrix_norm * residual
            for residual, normal, bound in zip(residuals, normals, bounds, strict=True)
        )

    seen: list[tuple[Tensor, Measured]] = []

    def certify(x: Tensor, rtol: float = goal) -> Certified:
        if not (seen and seen[0][0] is x):
            measured = measure_least_squares(
                counted, b, x, matrix_norm=matrix_norm, inverse=prepared.inverse, metric=prepared.metric
            )
            seen[:] = [(x, measured)]
        return judge_least_squares(seen[0][1], rtol=rtol, atol=atol)

    method = name or f"{type(iteration).__name__} + {type(preconditioner).__name__}"
    method = f"{method}; {prepared.detail}" if prepared.detail else method
    begin = time.perf_counter()
    if start is not None and not iteration.finishes and callback is None:  # factors may give the solution itself
        certificate, converged = certify_least_squares(counted, b, x, rtol=rtol, atol=atol, matrix_norm=matrix_norm)
        rough = not certificate.extra["backward error"] <= _stable * torch.finfo(b.dtype).eps
        cheap = operator.shape[0] >= _tall * operator.shape[1]
        if prepared.inverse is not None and (not certificate.holds or (rough and cheap)):
            certificate, converged = certify(x, rtol)
        if certificate.holds:
            work.spend("iterate", time.perf_counter() - begin)
            residuals = [certificate.extra["relative residual"] * float(torch.linalg.vector_norm(b, dim=-1).max())]
            return Result(x, converged, certificate, work, 0, method, residuals)
    limit = iteration_limit(min(operator.shape), max_iterations)
    if iteration.finishes and (x0 is not None or not bool(b.any())) and certify(x, goal)[0].holds:
        limit = 0  # nothing to do
    alone = len(b) == 1 and b.is_cpu
    outcome = drive(
        iteration, counted, b, prepared.apply, x, claims=claims, certify=certify, max_iterations=limit,
        callback=callback, kernel=Kernel(operator.compiled(), prepared.sweeps, work.charge) if alone else None,
    )  # fmt: skip
    if goal < rtol:
        certificate, converged = certify(outcome.x, rtol)
        status = converged if certificate.holds else outcome.status
        outcome = dataclasses.replace(outcome, certificate=certificate, status=status)
    work.spend("iterate", time.perf_counter() - begin)
    return Result(outcome.x, outcome.status, outcome.certificate, work, outcome.iterations, method, outcome.history)
