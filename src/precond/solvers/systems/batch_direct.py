"""Batches of dense systems by factorizations: one member after another while it is in the cache, or many small ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from precond.core import Status
from precond.krylov import CG
from precond.math.dense.matrix import Facts, examine, symmetric_product
from precond.math.dense.solve import solve_dense
from precond.operators.function import FunctionOperator
from precond.solvers.systems.batch import Batch

_tiny = 120  # order up to which one call for many members is faster than a call for each
_dear = 9.0  # what a flop of a product costs, in flops of a factorization; measured at orders 512 to 4096, one thread
_fewest = 8  # iterations below which conjugate gradients are not tried
_numbers = 1 << 21  # in the matrices that are factorized by one call
_rounds = 3
Stop = Callable[[int], bool]


def solve_directly(batch: Batch, stop: Stop, max_iterations: int | None = None) -> str:
    """Solve each member by a factorization in place of an iteration, or by conjugate gradients where they cost less.

    Conjugate gradients are tried on the first symmetric member with a positive diagonal, for as many iterations as cost
    what a factorization costs, and kept for as long as that is enough.

    Args:
        batch: The systems; solutions and outcomes are written to it.
        stop: Asked after each member or group of members with the number of those done; true to leave the others.
        max_iterations: Limit on solves with factors, and on iterations of conjugate gradients, for each member.

    Returns:
        What was done, in words.
    """
    if batch.matrices.device.type != "cpu" or batch.matrices.shape[-1] <= _tiny:
        return _together(batch, stop, max_iterations)
    order = batch.matrices.shape[-1]
    limit = int(order / (6 * _dear)) if batch.b.shape[1] == 1 and batch.matrices.dtype == torch.float64 else 0
    limit = limit if max_iterations is None or limit <= max_iterations else 0
    iterated = factorized = 0
    for number in range(len(batch.b)):
        matrix = batch.matrices[number].resolve_conj().contiguous().numpy()
        facts = examine(matrix)
        definite = facts.positive and facts.asymmetry <= 4 * float(np.finfo(matrix.dtype).eps)
        if limit >= _fewest and definite and math.isfinite(facts.norm):
            if _by_cg(batch, number, matrix, facts, limit):
                iterated += 1
                if stop(number + 1):
                    break
                continue
            limit = 0
        factorized += 1
        _by_factors(batch, number, matrix, facts, definite, max_iterations)
        if stop(number + 1):
            break
    words = [f"{iterated} by cg" if iterated else "", f"{factorized} by factorizations" if factorized else ""]
    return ", ".join(word for word in words if word)


def _by_cg(batch: Batch, number: int, matrix: np.ndarray, facts: Facts, limit: int) -> bool:
    """Try conjugate gradients on one member with one right-hand side; return whether they converged."""
    operator = FunctionOperator(
        lambda v: torch.from_numpy(symmetric_product(matrix, v[0].numpy()))[None], matrix.shape, dtype=torch.float64,
        symmetric=True,
    )  # fmt: skip
    b, x = batch.b[number], batch.x[number]
    if not bool(torch.isfinite(b).all()):
        return False
    bound = 0.5 * float(batch.bounds(b))
    for count, progress in enumerate(CG().iterate(operator, b, lambda v: v, x)):
        batch.work.matvecs += 1
        if progress.failure is not None or count >= limit:
            return False
        if progress.solved or float(progress.residual) <= bound:
            break
    before = x.clone()
    x.copy_(progress.solution())
    r = b - torch.from_numpy(matrix @ x[0].numpy())
    batch.work.matvecs += 1
    size, left, length = (torch.linalg.vector_norm(v, dim=-1)[None] for v in (b, r, x))
    scale = torch.tensor([facts.norm])
    failed = batch.note([number], [count], [Status.FAILED_STAGNATION], size, left, length, scale)
    if failed:
        x.copy_(before)
    return not failed


def _by_factors(
    batch: Batch, number: int, matrix: np.ndarray, facts: Facts, definite: bool, limit: int | None
) -> None:  # fmt: skip
    """Solve one member by factors and refinement."""
    b, x = batch.b[number], batch.x[number]
    finite = math.isfinite(facts.norm) or bool(np.isfinite(matrix).all())
    if not (finite and bool(torch.isfinite(b).all()) and bool(torch.isfinite(x).all())):
        batch.give_up(number, Status.FAILED_NON_FINITE)
        return
    x[~b.any(dim=-1)] = 0
    with np.errstate(all="ignore"):
        solved = solve_dense(matrix, b.numpy(), x.numpy(), batch.bounds(b).numpy(), definite=definite, limit=limit)
    batch.work.matvecs += len(b) * (solved.steps + 1)
    batch.work.applies += len(b) * solved.steps
    batch.work.refreshes += solved.factorizations
    failure = Status.FAILED_BREAKDOWN if solved.singular else Status.FAILED_STAGNATION
    failure = Status.STOPPED_STEPS if solved.steps == limit else failure
    if torch.promote_types(b.dtype, torch.float64) != b.dtype or not math.isfinite(facts.norm):
        batch.judge([number], [solved.steps], [failure])
        return
    lengths = [torch.linalg.vector_norm(v, dim=-1)[None] for v in (b, x)]
    residuals = torch.from_numpy(solved.residuals)[None]
    scale = torch.tensor([facts.norm])
    batch.note([number], [solved.steps], [failure], lengths[0], residuals, lengths[1], scale)


def _together(batch: Batch, stop: Stop, limit: int | None) -> str:
    """Factorize many members by one call: small ones, or those on another device."""
    members, order = len(batch.b), batch.matrices.shape[-1]
    rounds = _rounds if limit is None else min(_rounds, limit)
    size = max(1, _numbers // order**2)
    for first in range(0, members, size):
        numbers = slice(first, min(members, first + size))
        matrices, b, x = (t[numbers] for t in (batch.matrices, batch.b, batch.x))
        finite = torch.isfinite(matrices).flatten(1).all(1)
        finite &= torch.isfinite(b).flatten(1).all(1) & torch.isfinite(x).flatten(1).all(1)
        if not bool(finite.all()):
            matrices = torch.where(finite[:, None, None], matrices, torch.eye(order).to(matrices))
        b = torch.where(finite[:, None, None], b, 0)
        x = torch.where(finite[:, None, None] & b.any(dim=-1, keepdim=True), x, 0)
        singular, steps = _refined(matrices, b, x, batch.bounds(b), rounds)
        batch.x[numbers] = x
        batch.work.matvecs += b.shape[0] * b.shape[1] * (rounds + 1)
        batch.work.applies += b.shape[0] * b.shape[1] * rounds
        batch.work.refreshes += len(b)
        failures = [Status.FAILED_BREAKDOWN if s else Status.FAILED_STAGNATION for s in singular.tolist()]
        failures = [Status.STOPPED_STEPS if n == limit else f for n, f in zip(steps, failures, strict=True)]
        good = [i for i, ok in enumerate(finite.tolist()) if ok]
        if good:
            batch.judge([first + i for i in good], [steps[i] for i in good], [failures[i] for i in good])
        for i, ok in enumerate(finite.tolist()):
            if not ok:
                batch.give_up(first + i, Status.FAILED_NON_FINITE)
        if stop(numbers.stop):
            break
    return f"{members} by factorizations"


def _refined(matrices: Tensor, b: Tensor, x: Tensor, bounds: Tensor, rounds: int) -> tuple[Tensor, list[int]]:
    """Solve by LU and refine members while their residuals fall; write to ``x``, return the singular and the steps."""
    factors, pivots, info = torch.linalg.lu_factor_ex(matrices)
    r = b - x @ matrices.mT
    norms = torch.linalg.vector_norm(r, dim=-1)
    steps = torch.zeros(len(b), dtype=torch.int64, device=b.device)
    for _ in range(rounds):
        active = (norms > bounds).any(-1)
        if not bool(active.any()):
            break
        better = x + torch.linalg.lu_solve(factors, pivots, r.mT).mT
        remaining = b - better @ matrices.mT
        after = torch.linalg.vector_norm(remaining, dim=-1)
        improved = active & torch.isfinite(after).all(-1) & (after.amax(-1) < norms.amax(-1))
        steps += active
        if not bool(improved.any()):
            break
        x[improved], r[improved], norms[improved] = better[improved], remaining[improved], after[improved]
    return info != 0, steps.tolist()
