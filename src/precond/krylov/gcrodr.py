"""GCRO-DR: restarts keep a deflated subspace, and a sequence of systems hands it on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from precond.core import BadInputError, Kernel, Look, Map, Operator, Progress, Recycling, Status
from precond.krylov.deflated import Cycle, Directions, Matrix
from precond.krylov.inner import norm
from precond.krylov.lockstep import lockstep
from precond.krylov.process import Compiled, Process, Stepwise
from precond.krylov.stretches import scalar
from precond.math.krylov.arnoldi import combined


@dataclasses.dataclass
class Recycled:
    """What GCRO-DR remembers between systems: the last cycle of each row."""

    cycles: dict[int, Cycle] = dataclasses.field(default_factory=dict)


@final
@dataclasses.dataclass(frozen=True)
class GCRODR(Recycling[Recycled]):
    """GCRO with deflated restarting for any square ``A``, preconditioned from the right, with recycling.

    ``U`` holds ``k`` directions with ``A U = C``, ``C^H C = I``. A cycle starts at ``r = b - A x``, orthogonal to
    ``C``, and runs the Arnoldi process of ``(I - C C^H) A P``, so that with ``Z = P V``::

        A Z = C B + V_{+1} H,        y minimizes  || beta e_0 - H y ||,        x + Z y - U B y

    has the least residual over ``x + span(U, Z)``. After a cycle ``U`` becomes the span of the harmonic Ritz vectors
    of ``A P`` with the least Ritz values in that space: what slows GMRES down after a restart is kept. Where the
    iteration is given a `Recycled`, it starts with the space that the system before left in it: ``A U`` is made anew
    (``k`` products), orthonormalized, and ``x`` moved to the least residual over ``x + span(U)``. That projection is
    the first item that follows the start.

    (M. L. Parks, E. de Sturler, G. Mackey, D. D. Johnson, S. Maiti, *Recycling Krylov subspaces for sequences of linear
    systems*, 2006.) ``Z`` is kept, so the preconditioner may change in every step, as in L. M. Carvalho, S. Gratton,
    R. Lago, X. Vasseur, *A flexible generalized conjugate residual method with inner orthogonalization and deflated
    restarting*, 2011. A vector is orthogonalized twice when the first projection leaves less than a tenth of it.

    Each row of ``b`` is a system of its own, with a space of its own.

    Attributes:
        size: Largest dimension of a cycle's space, ``m``.
        keep: Directions kept at a restart and between systems, ``k``.
    """

    size: int = 40
    keep: int = 20

    fixed_preconditioner: ClassVar[bool] = False
    row_by_row: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check that a cycle has room for a step."""
        if not 0 <= self.keep < self.size:
            raise BadInputError(f"gcrodr needs 0 <= keep < size, not keep={self.keep} and size={self.size}")

    def memory(self) -> Recycled:
        """Return an empty memory."""
        return Recycled()

    def recycle(
        self, memory: Recycled, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Yield the progress at ``x0``, after the projection on the recycled space if any, then after each step."""
        return lockstep([
            self._row(memory, row, operator, b[row : row + 1], precondition, x0[row : row + 1])
            for row in range(len(b))
        ])  # fmt: skip

    def recycle_ahead(
        self, memory: Recycled, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Do what `recycle` does for one system that compiled loops take, and yield when ``look`` says so."""
        return self._row(memory, 0, operator, b, precondition, x0, kernel, look)

    def _row(
        self,
        memory: Recycled,
        row: int,
        operator: Operator,
        b: Tensor,
        precondition: Map,
        x0: Tensor,
        kernel: Kernel | None = None,
        look: Look | None = None,
    ) -> Iterator[Progress]:
        x = x0.clone()
        r = b - operator.matvec(x) if bool(x.any()) else b.clone()
        yield Progress(norm(r), x.clone)
        last = memory.cycles.pop(row, None)
        kept = Directions.none(b)
        if last is not None and bool(r.any()):
            kept = last.deflated(self.keep)
            if not last.current:
                kept = kept.moved(operator)
        if len(kept.u):
            along = r @ kept.c.mH
            x, r = x + along @ kept.u, r - along @ kept.c
            yield Progress(norm(r), x.clone)
        size = min(self.size, b.shape[1] + 1)
        process: Process = (
            Compiled(size, operator, b, precondition, kernel, look)
            if b.is_cpu
            else Stepwise(size, operator, b, precondition)
        )
        while True:
            beta = float(norm(r))
            if beta == 0:
                yield Progress(norm(r), x.clone, solved=True)
                return
            cycle = memory.cycles[row] = process.begin(kept, r, beta)
            for residual, skipped in process.steps(cycle):
                step = _Step(x, cycle, process.minimizer, cycle.done)
                failure, solved = None, False
                if process.broken:
                    solved = residual <= 10 * torch.finfo(b.dtype).eps * beta
                    failure = None if solved else Status.FAILED_BREAKDOWN
                yield Progress(scalar(residual), step.solution, failure=failure, solved=solved, skipped=skipped)
                if process.broken:
                    return
            y, k = process.minimizer(cycle.done), len(kept.u)
            images = cycle.g[: k + cycle.done + 1, : cycle.done] @ y
            rest = -images
            rest[:k] = 0
            rest[k] += beta
            kept, moved, left = cycle.restarted(self.keep, np.concatenate([-images[:k], y]), rest)
            assert moved is not None
            assert left is not None
            x, r = x + moved, left[None]


@dataclasses.dataclass(frozen=True)
class _Step:
    """What the iterate after ``size`` steps of a cycle is made of."""

    x: Tensor
    cycle: Cycle
    minimizer: Callable[[int], Matrix]
    size: int

    def solution(self) -> Tensor:
        """Return ``x + Z y - U B y``."""
        k, y = len(self.cycle.kept.u), self.minimizer(self.size)
        by = self.cycle.g[:k, : self.size] @ y
        z = self.cycle.w[k : k + self.size] if self.cycle.plain else self.cycle.z[: self.size]
        return self.x + combined(np.concatenate([-by, y])[None], self.cycle.kept.u, z)
