"""Batches of dense systems by an iteration: members that fit into the cache together are iterated together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from precond.core import Iteration, OperatorTraits, Preconditioner, Progress, Status
from precond.operators.members import MembersOperator
from precond.solvers.systems.batch import Batch
from precond.solvers.systems.counted import CountedOperator
from precond.solvers.systems.setup import prepare

_cache = 1 << 19  # bytes of matrices that are iterated on together
_trust = 0.9  # of its bound, which a member's own residual must meet before it is recomputed
Alone = Callable[[int], None]


def tile(batch: Batch) -> int:
    """Return how many members are iterated on together."""
    return max(1, _cache // max(1, batch.matrices[0].numel() * batch.matrices.element_size()))


def solve_tile(
    batch: Batch, numbers: list[int], iteration: Iteration, preconditioner: Preconditioner[Any], traits: OperatorTraits,
    limit: int, alone: Alone,
) -> None:  # fmt: skip
    """Iterate on some members together; each leaves when its recomputed residual is small enough.

    Members that have not converged when the others have, or when something fails (which iterations report for all rows
    together), are solved alone, from where they are.

    Args:
        batch: The systems; solutions and outcomes are written to it.
        numbers: Of the members; their matrices and right-hand sides are finite.
        iteration: The method; its rows do not interact.
        preconditioner: Fed with all members.
        traits: What holds for all of them.
        limit: Iterations.
        alone: Solves one member, from ``batch.x``.
    """
    members, k, n = shape = batch.b[numbers].shape
    inner = MembersOperator(batch.matrices[numbers], traits, columns=k)
    operator = CountedOperator(inner, batch.work)
    b, x = batch.b[numbers].reshape(-1, n), batch.x[numbers].reshape(-1, n)
    prepared = prepare(preconditioner, operator, x, batch.work)
    bounds = batch.bounds(b).reshape(members, k) * _trust
    done = torch.zeros(members, dtype=torch.bool)
    retries = torch.ones(members, dtype=torch.float64)

    for count, progress in enumerate(iteration.iterate(operator, b, prepared.apply, x)):
        residuals = progress.residual.double().reshape(members, k)
        claimed = (residuals <= bounds * retries[:, None]).all(-1) & ~done
        ended = progress.failure is not None or progress.solved or count >= limit or not _finite(residuals[~done])
        if bool(claimed.any()) or ended:
            _take(batch, numbers, progress, (claimed | (ended & ~done)).tolist(), shape)
            asked = [i for i, c in enumerate(claimed.tolist()) if c]
            if asked:
                failed = batch.judge(
                    [numbers[i] for i in asked], [count] * len(asked), [Status.STOPPED_STEPS] * len(asked)
                )
                for i in asked:
                    done[i] = numbers[i] not in failed
                    retries[i] *= 0.25
                inner.leave(done)
        if ended or bool(done.all()) or bool((retries < 1e-3).any()):
            break
    for i in range(members):
        if not done[i]:
            if not bool(torch.isfinite(batch.x[numbers[i]]).all()):
                batch.x[numbers[i]] = 0
            alone(numbers[i])


def _finite(residuals: torch.Tensor) -> bool:
    return math.isfinite(float(residuals.sum()))


def _take(batch: Batch, numbers: list[int], progress: Progress, which: list[bool], shape: torch.Size) -> None:
    """Copy the solutions of some members."""
    x = progress.solution().reshape(shape)
    for i, take in enumerate(which):
        if take:
            batch.x[numbers[i]] = x[i]
