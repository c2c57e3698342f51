"""Batches of dense systems for ``precond.solve``: ``A[members, n, n]``, ``b[members, n]`` or ``b[members, n, k]``."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.attempts import attempt, is_extreme
from precond.core import (
    BadInputError,
    Certificate,
    IncompatibleError,
    Iteration,
    Kind,
    Member,
    Need,
    OperatorTraits,
    Preconditioner,
    Result,
    Status,
    Work,
)  # fmt: skip
from precond.operators.checks import as_tensor, working_dtype
from precond.operators.dense import DenseOperator
from precond.recipes.named import (
    build_iteration,
    build_preconditioner,
    canonical_method,
    canonical_preconditioner,
    name_of,
)
from precond.solvers.asking import stops
from precond.solvers.systems.adjoint import wants_gradient
from precond.solvers.systems.batch import Batch
from precond.solvers.systems.batch_adjoint import with_batch_gradient
from precond.solvers.systems.batch_direct import solve_directly
from precond.solvers.systems.batch_krylov import solve_tile, tile
from precond.solvers.systems.certify import RESIDUAL, excess
from precond.solvers.systems.choose import choose_system
from precond.solvers.systems.drive import Callback, Event
from precond.solvers.systems.setup import check_callback, check_tolerances, iteration_limit
from precond.solvers.systems.solve import solve_linear

_decomposable = 1000  # unknowns up to which a dense decomposition is within reason when a factorization failed
_refinements = 20


def is_batch(A: Any) -> bool:
    """Whether ``A`` holds several matrices: an array or tensor of three dimensions or more."""
    if isinstance(A, (list, tuple)):
        try:
            return np.ndim(A) > 2
        except (ValueError, RuntimeError):  # ragged, or of tensors
            return False
    return isinstance(A, (Tensor, np.ndarray)) and A.ndim > 2


def solve_batch(
    A: Any, b: Any, *, method: str | Iteration, preconditioner: str | Preconditioner[Any], rtol: float, atol: float,
    max_iterations: int | None, x0: Any, callback: Callback | None,
) -> Result:  # fmt: skip
    """Solve many dense systems; see `precond.solve`, whose arguments these are."""
    check_tolerances(rtol, atol, max_iterations)
    check_callback(callback)
    differentiate = wants_gradient(A, b)
    matrices, rows, start, restore = _read(A, b, x0)
    work, begin = Work(), time.perf_counter()
    extreme = [number for number, right in enumerate(rows.detach()) if is_extreme(right)]
    with torch.no_grad():
        ordinary = rows.detach().clone() if extreme else rows.detach()
        ordinary[extreme] = 0
        batch = Batch(matrices.detach(), ordinary, start.clone(), rtol, atol, work)
        watch = _Watch(batch, callback, restore)
        if isinstance(method, str) and isinstance(preconditioner, str) and method == preconditioner == "auto":
            label = f"{solve_directly(batch, watch, max_iterations)} ({len(rows)} dense systems)"
            label += _by_pseudoinverses(batch, max_iterations)
        else:
            label = _iterated(batch, method, preconditioner, max_iterations, watch)
        for number in extreme:
            limits = {"rtol": rtol, "atol": atol, "max_iterations": max_iterations}
            _alone(batch, number, rows[number], start[number], method, preconditioner, limits)
        for number in range(len(rows)):
            if number not in batch.members:
                batch.members[number] = Member(Status.STOPPED_USER, Certificate(RESIDUAL, math.nan, rtol), 0)
    work.spend("iterate", time.perf_counter() - begin - work.seconds.get("setup", 0.0))
    result = batch.result(label)
    x = result.x
    if differentiate:

        def again(adjoint: Tensor, g: Tensor) -> Result:
            return solve_batch(
                adjoint, g, method=method, preconditioner=preconditioner, rtol=rtol, atol=atol,
                max_iterations=max_iterations, x0=None, callback=None,
            )  # fmt: skip

        x = with_batch_gradient(x, matrices, rows, again)
    return dataclasses.replace(result, x=restore(x))


def _read(A: Any, b: Any, x0: Any) -> tuple[Tensor, Tensor, Tensor, Any]:
    """Return matrices ``[members, n, n]``, right-hand sides and starts ``[members, k, n]``, and how to give back."""
    numpy = not isinstance(b, Tensor)
    matrices, right = _tensor(A, "A"), _tensor(b, "b")
    if matrices.layout != torch.strided or right.layout != torch.strided:
        raise BadInputError("a batch of sparse matrices: give it dense, or solve one by one with precond.SolveSequence")
    lead, (n, columns) = matrices.shape[:-2], matrices.shape[-2:]
    if n != columns:
        raise IncompatibleError(f"solve takes square matrices, these have shape {(n, columns)}: use precond.lstsq")
    if matrices.numel() == 0 or right.numel() == 0:
        raise BadInputError(f"the batch is empty (A {tuple(matrices.shape)}, b {tuple(right.shape)}): give a number")
    if matrices.device != right.device:
        raise BadInputError(f"b is on {right.device}, the matrices on {matrices.device}: move one of them")
    if right.is_complex() and not matrices.is_complex():
        raise BadInputError("b is complex, the matrices are real: give complex matrices, or real and imaginary columns")
    dtype = torch.promote_types(matrices.dtype, right.dtype)
    vector = right.ndim == len(lead) + 1
    expected = f"b [{', '.join(map(str, (*lead, n)))}] or with columns [..., {n}, k]"
    if right.shape == (n,):
        right, vector = right.expand(*lead, n), True
    if right.shape[: len(lead) + 1] != (*lead, n) or right.ndim > len(lead) + 2:
        raise BadInputError(f"A has shape {tuple(matrices.shape)}, b {tuple(right.shape)}: give {expected}")

    def rows_of(value: Tensor) -> Tensor:
        value = value.unsqueeze(-1) if vector else value
        return value.reshape(-1, n, value.shape[-1]).mT.to(dtype).contiguous()

    def restore(x: Tensor) -> Any:
        x = x.mT.reshape(*lead, n, -1)
        x = x.squeeze(-1) if vector else x
        return x.detach().cpu().numpy() if numpy else x

    rows = rows_of(right)
    start = torch.zeros_like(rows)
    if x0 is not None:
        given = _tensor(x0, "x0")
        if given.shape != right.shape:
            raise BadInputError(f"x0 has shape {tuple(given.shape)}, b {tuple(right.shape)}: they must be equal")
        if not bool(torch.isfinite(given).all()):
            raise BadInputError("x0 has an entry that is not finite: remove it or replace it before solving")
        start = rows_of(given)
    return matrices.reshape(-1, n, n).to(dtype), rows, start, restore


def _tensor(value: Any, what: str) -> Tensor:
    tensor = value if isinstance(value, Tensor) else as_tensor(value, what)
    return tensor.to(working_dtype(tensor.dtype))


def _iterated(
    batch: Batch, method: str | Iteration, preconditioner: str | Preconditioner[Any], max_iterations: int | None,
    watch: _Watch,
) -> str:  # fmt: skip
    """Solve by an iteration: in tiles where its rows may be members of their own, else one by one."""
    facts = _facts(batch)
    symmetric = all(f.symmetric for f in facts if f is not None)
    if method == "auto":
        method = "cg" if symmetric else "gmres"
    method, preconditioner = canonical_method(method), canonical_preconditioner(preconditioner)
    iteration = build_iteration(method, Kind.LINEAR_SYSTEM)
    named = ("jacobi" if iteration.preconditioned else "identity") if preconditioner == "auto" else preconditioner
    part = build_preconditioner(named)
    n = batch.matrices.shape[-1]
    limit = iteration_limit(n, max_iterations)
    for number, known in enumerate(facts):
        if known is not None and iteration.symmetric_operator and not known.symmetric:
            raise IncompatibleError(
                f"{type(iteration).__name__} needs symmetric matrices, member {number} is not: use method='gmres', or "
                "give (A + A^H) / 2"
            )

    def alone(number: int) -> None:
        known = facts[number]
        if known is None or not bool(torch.isfinite(batch.b[number]).all()):
            batch.give_up(number, Status.FAILED_NON_FINITE)
            return
        if iteration.definite_operator and known.definite is False:
            batch.judge([number], [0], [Status.FAILED_INDEFINITE_OPERATOR])
            return
        operator = DenseOperator(batch.matrices[number], symmetric=known.symmetric)
        result = solve_linear(
            operator, batch.b[number], iteration, part, x0=batch.x[number], rtol=batch.rtol, atol=batch.atol,
            max_iterations=limit, work=batch.work,
        )  # fmt: skip
        batch.x[number] = result.x
        batch.members[number] = Member(result.status, result.certificate, result.iterations)

    apart = iteration.block or iteration.row_by_row or part.traits.fixed is False
    together = not (apart or Need.ENTRIES in (iteration.needs | part.needs))
    size = tile(batch) if together and type(part).__name__ in ("Identity", "Jacobi") else 1
    traits = OperatorTraits(symmetric, None)
    waiting: list[int] = []
    for number, known in enumerate(facts):
        good = known is not None and not (iteration.definite_operator and known.definite is False)
        if good and size > 1 and bool(torch.isfinite(batch.b[number]).all()):
            waiting.append(number)
        else:
            alone(number)
        if len(waiting) == size or (number + 1 == len(facts) and waiting):
            solve_tile(batch, waiting, iteration, part, traits, limit, alone)
            waiting = []
        if not waiting and watch(number + 1):
            break
    return f"{name_of(method)} + {name_of(named)} ({len(facts)} dense systems, {size} at a time)"


def _alone(
    batch: Batch, number: int, b: Tensor, start: Tensor, method: str | Iteration,
    preconditioner: str | Preconditioner[Any], limits: dict[str, Any],
) -> None:  # fmt: skip
    """Solve a member by itself, as one whose right-hand side needs a unit of its own."""
    if number not in batch.members:  # stopped before
        return
    if batch.members[number].status is not Status.FAILED_NON_FINITE:
        operator = DenseOperator(batch.matrices[number])
        result = attempt(
            operator, b, method, preconditioner, start if bool(start.any()) else None, None, Kind.LINEAR_SYSTEM,
            choose_system, solve_linear, limits,
        ).result  # fmt: skip
        batch.x[number] = result.x
        batch.members[number] = Member(result.status, result.certificate, result.iterations)


def _by_pseudoinverses(batch: Batch, limit: int | None) -> str:
    """Solve members that have no factorization by their pseudoinverses, and return what to say about it."""
    lost = [
        number
        for number, member in batch.members.items()
        if member.status in (Status.FAILED_STAGNATION, Status.FAILED_BREAKDOWN)
        and bool(torch.isfinite(batch.matrices[number]).all())
    ]
    if not lost or batch.matrices.shape[-1] > _decomposable:
        return ""
    iteration, part = build_iteration("richardson", Kind.LINEAR_SYSTEM), build_preconditioner("pseudo-inverse")
    for number in lost:
        result = solve_linear(
            DenseOperator(batch.matrices[number]), batch.b[number], iteration, part, rtol=batch.rtol, atol=batch.atol,
            max_iterations=_refinements if limit is None else min(_refinements, limit), work=batch.work,
        )  # fmt: skip
        if not excess(result.certificate) > excess(batch.members[number].certificate):
            batch.x[number] = result.x
            batch.members[number] = Member(result.status, result.certificate, result.iterations)
    return f"; {len(lost)} by pseudoinverses"


def _facts(batch: Batch) -> list[OperatorTraits | None]:
    """Return what is known of each matrix; ``None`` where an entry is not finite."""
    found: list[OperatorTraits | None] = []
    for number, matrix in enumerate(batch.matrices):
        try:
            found.append(DenseOperator(matrix).traits)
        except BadInputError:
            found.append(None)
        batch.x[number] = torch.where(batch.b[number].any(dim=-1, keepdim=True), batch.x[number], 0)
    return found


class _Watch:
    """Calls the user's callback after members are done.

    Args:
        batch: The systems.
        callback: The user's.
        restore: Gives solutions back in the form of the problem.
    """

    def __init__(self, batch: Batch, callback: Callback | None, restore: Any) -> None:
        self.batch, self.callback, self.restore = batch, callback, restore

    def __call__(self, done: int) -> bool:
        """Whether to stop here."""
        if self.callback is None:
            return False
        worst = max((member.certificate.value for member in self.batch.members.values()), default=0.0)
        return stops(self.callback, Event(done, worst, lambda: self.restore(self.batch.x.clone())))
