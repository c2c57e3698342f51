"""Newton systems by GMRES with a sketch of the Hessian as constraint preconditioner, kept while it serves."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from precond.core import Evidence, Iteration, Operator, Progress, Work
from precond.core.materialize import materialize
from precond.krylov.gmres import GMRES
from precond.krylov.minres import MINRES
from precond.operators.kkt import KKT
from precond.programs.accuracy import System
from precond.programs.constraint import ConstraintPreconditioner, ConstraintState
from precond.programs.directions import Directions

logger = logging.getLogger(__name__)

SHRINKS = 0.5
"""Factor of the norms of right-hand sides from which on iterates are taken to settle, and the Hessian with them."""
FADED = 0.5
"""Power of the rate of a fresh sketch; one that converges more slowly is made anew for the next system."""
SEEN = 3
"""Iterations after which a rate is known."""


@dataclasses.dataclass
class Sketched:
    """What is handed from one system to the next.

    Attributes:
        state: Of the preconditioner; ``None`` before the first system.
        level: How often the effort of the sketch has been doubled.
        made: Sketches so far.
        new: The sketch is one of the system at hand.
        due: A new one is to be made.
        rate: Factor of the residual in one iteration just after the sketch was made; 0 where it is not known.
        size: Norm of the right-hand side of the last system.
    """

    state: ConstraintState | None = None
    level: int = 0
    made: int = 0
    new: bool = False
    due: bool = True
    rate: float = 0.0
    size: float = float("inf")


@final
@dataclasses.dataclass(frozen=True)
class HessianSketch(Directions[Sketched]):
    """GMRES on ``[[H + t I, J'], [J, -delta I]]``, preconditioned by this matrix with a random ``H~`` instead of ``H``.

    A sketch costs a fraction of the matrix, and is factorized once for several systems: it is made anew where the
    right-hand side has not shrunk to half, the last one needed a shift, or has converged half as fast as in the
    beginning; with twice the effort where it is fresh and ``fresh`` iterations were not enough. None of this decides
    what is accepted. Where nothing can be factorized (see `ConstraintPreconditioner`) there is no preconditioner, and
    MINRES takes the place of GMRES.

    Attributes:
        seed: Seed of the first sketch.
        stale: Iterations with the sketch of an earlier system before a new one is made.
        fresh: Iterations with a new sketch before a larger one is made.
        levels: How often the effort is doubled, at most.
        limit: Iterations of one system without a preconditioner.
    """

    seed: int = 0
    stale: int = 12
    fresh: int = 30
    levels: int = 4
    limit: int = 2_000

    def memory(self) -> Sketched:
        """Return one without a sketch."""
        return Sketched()

    def system(
        self, hessian: Operator, jacobian: Operator, size: float, memory: Sketched, work: Work, *, dense: bool
    ) -> System:
        """Sketch where it is due; return the blocks as they are, dense if asked for, with the shift of the sketch."""
        shifted = memory.state is not None and memory.state.shift > 0
        memory.due |= shifted or not size <= SHRINKS * memory.size
        memory.size, memory.new = size, False
        operator = self._sketched(KKT(hessian, jacobian), memory, work)
        if dense:
            h, g = materialize(hessian), materialize(jacobian)
            return System(size, operator, (h + h.mT) / 2, g, operator.shift)
        return System(size, operator, shift=operator.shift)

    def proposals(self, system: System, right: Tensor, memory: Sketched, work: Work) -> Iterator[Progress]:
        """Yield the progress with the sketch at hand, then with new ones; each goes on from where the last one came."""
        x, operator = torch.zeros_like(right)[None], system.operator
        while True:
            for progress in self._run(operator, right[None], x, memory):
                yield progress
            if progress.solved:
                return
            if memory.new and memory.level >= self.levels:
                yield dataclasses.replace(progress, failure=None, solved=True)
                return
            x, memory.level, memory.due = progress.solution(), memory.level + memory.new, True
            operator = self._sketched(KKT(operator.hessian, operator.jacobian), memory, work)

    def _run(self, operator: KKT, b: Tensor, x: Tensor, memory: Sketched) -> Iterator[Progress]:
        """Yield the progress with the sketch at hand, as long as it is worth while; note how fast it converges."""
        state, part = memory.state, ConstraintPreconditioner()
        assert state is not None
        limit = self.fresh if memory.new else self.stale
        iteration: Iteration = GMRES(limit)
        if state.solver is None:
            iteration, limit = MINRES(), self.limit
        first = 0.0
        for count, progress in enumerate(iteration.iterate(operator, b, lambda v: part.apply(state, v), x)):
            left = float(progress.residual)
            first = left if count == 0 else first
            rate = (left / first) ** (1 / count) if count and first > 0 else 0.0
            if memory.new and count:
                memory.rate = rate
            elif count >= SEEN:
                memory.due = rate > memory.rate**FADED
            over = count >= limit
            yield dataclasses.replace(progress, solved=True) if over and state.solver is None else progress
            if over or progress.solved or progress.failure is not None:
                return

    def _sketched(self, kkt: KKT, memory: Sketched, work: Work) -> KKT:
        """Return the system with the shifts of the sketch, which is made if it is due."""
        if memory.state is None:
            like = torch.zeros(1, kkt.shape[0], dtype=kkt.dtype, device=kkt.device)
            memory.state = ConstraintPreconditioner().init(like)
        state = memory.state
        if memory.due:
            part = ConstraintPreconditioner(memory.level, self.seed + memory.made)
            part.observe(state, Evidence(operator=kkt))
            health = part.refresh(state)
            logger.debug("sketch %d with its effort doubled %d times %s", memory.made, memory.level, health.detail)
            memory.made, memory.new, memory.due = memory.made + 1, True, False
            work.refreshes += 1
            work.factorizations += state.solver is not None
        return KKT(kkt.hessian, kkt.jacobian, shift=state.shift, delta=state.delta)
