"""Newton systems by GMRES with a sketch of the Hessian as constraint preconditioner, kept while it serves."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from precond.core import Evidence, Operator, Progress, Work
from precond.core.materialize import materialize
from precond.krylov.gmres import GMRES
from precond.operators.kkt import KKT
from precond.programs.accuracy import System
from precond.programs.constraint import ConstraintPreconditioner, ConstraintState
from precond.programs.directions import Directions

logger = logging.getLogger(__name__)

FADED = 0.5
"""Power of the rate of a fresh sketch; one that converges more slowly is made anew for the next system."""


@dataclasses.dataclass
class Sketched:
    """What is handed from one system to the next.

    Attributes:
        preconditioner: The state of the preconditioner; ``None`` before the first system.
        level: How often the effort of the sketch has been doubled.
        made: Sketches so far.
        rate: Factor of the residual in one iteration just after the sketch was made; 0 where it is not known.
        faded: It converges too slowly by now.
    """

    preconditioner: ConstraintState | None = None
    level: int = 0
    made: int = 0
    rate: float = 0.0
    faded: bool = False


@final
@dataclasses.dataclass(frozen=True)
class HessianSketch(Directions[Sketched]):
    """GMRES on ``[[H + t I, J'], [J, -delta I]]``, preconditioned by that matrix with a random ``H~`` in place of ``H``.

    A sketch costs a fraction of the matrix, and is factorized once for several systems: it is made anew where it has
    converged half as fast as in the beginning, or needed a shift; with twice the effort where it is fresh and ``fresh``
    iterations were not enough. None of this decides what is accepted.

    Attributes:
        seed: Seed of the first sketch.
        stale: Iterations with the sketch of an earlier system before a new one is made.
        fresh: Iterations with a new sketch before a larger one is made.
        levels: How often the effort is doubled, at most.
    """

    seed: int = 0
    stale: int = 12
    fresh: int = 30
    levels: int = 4

    def memory(self) -> Sketched:
        """Return one without a sketch."""
        return Sketched()

    def system(
        self, hessian: Operator, jacobian: Operator, size: float, memory: Sketched, *, dense: bool
    ) -> System | None:
        """Return the blocks as they are, dense if asked for, with the shift of the sketch at hand."""
        state = memory.preconditioner
        if memory.faded or (state is not None and state.shift):
            state = memory.preconditioner = None
        if dense:
            h, g = materialize(hessian), materialize(jacobian)
            return System(size, KKT(hessian, jacobian), (h + h.mT) / 2, g)
        return System(size, KKT(hessian, jacobian, delta=state.delta if state is not None else 0.0))

    def proposals(self, system: System, right: Tensor, memory: Sketched, work: Work) -> Iterator[Progress]:
        """Yield the progress with the sketch at hand, then with new ones; each goes on from where the last one came."""
        x = torch.zeros_like(right)[None]
        plain = system.operator
        progress: Progress | None = None
        while True:
            new = memory.preconditioner is None
            if new:
                self._make(plain, memory, work)
            state, part = memory.preconditioner, ConstraintPreconditioner()
            assert state is not None
            operator = KKT(plain.hessian, plain.jacobian, shift=state.shift, delta=state.delta)
            limit = self.fresh if new else self.stale
            sizes: list[float] = []
            for count, progress in enumerate(
                GMRES(limit).iterate(operator, right[None], lambda v: part.apply(state, v), x)
            ):
                sizes.append(float(progress.residual))
                rate = (sizes[-1] / sizes[0]) ** (1 / count) if count and sizes[0] > 0 else 0.0
                if new and count:
                    memory.rate, memory.faded = rate, False
                elif count >= 3:
                    memory.faded = rate > memory.rate**FADED
                yield progress
                if count >= limit or progress.solved or progress.failure is not None:
                    break
            assert progress is not None
            x = progress.solution()
            if new and memory.level >= self.levels:
                yield dataclasses.replace(progress, solved=True, failure=None)
                return
            memory.level += new
            memory.preconditioner = None

    def _make(self, kkt: KKT, memory: Sketched, work: Work) -> None:
        """Sketch and factorize."""
        part = ConstraintPreconditioner(memory.level, self.seed + memory.made)
        state = part.init(torch.zeros(1, kkt.shape[0], dtype=kkt.dtype, device=kkt.device))
        part.observe(state, Evidence(operator=kkt))
        health = part.refresh(state)
        logger.debug("sketch %d of level %d: %s", memory.made, memory.level, health)
        memory.preconditioner, memory.made = state, memory.made + 1
        work.refreshes += 1
        work.factorizations += state.solver is not None
