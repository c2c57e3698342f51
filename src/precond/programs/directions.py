"""What proposes solutions of Newton systems: any iteration, with its Hessian shifted as its inertia asks."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, final

import torch
from torch import Tensor

from precond.core import Iteration, Operator, Progress, Work
from precond.core.materialize import materialize
from precond.krylov.dense import Dense
from precond.math.sparse.inertia import equilibrate
from precond.operators.dense import DenseOperator
from precond.operators.kkt import KKT, assemble
from precond.programs.accuracy import System
from precond.programs.curvature import Curvature, LeastShift

M = TypeVar("M")

LEAST = 50
"""Iterations that a system is given at least before it is factorized."""
DELTA = 1e-8
"""Shift of the second block where the Jacobian has not full rank."""


class Directions(abc.ABC, Generic[M]):
    """Proposes ever better solutions of the Newton systems of one run, as a frozen dataclass; others accept them.

    Memories, of a kind ``M`` of its own, hand on what was learned of one system to the next.
    """

    @abc.abstractmethod
    def memory(self) -> M:
        """Return an empty memory."""

    @abc.abstractmethod
    def system(
        self, hessian: Operator, jacobian: Operator, size: float, memory: M, work: Work, *, dense: bool
    ) -> System:
        """Examine a Newton system.

        Args:
            hessian: Of the Lagrangian, ``[n, n]``.
            jacobian: Of the constraints, ``[m, n]``.
            size: Norm of the right-hand side.
            memory: What is handed on.
            work: The account that factorizations and refreshes are charged to.
            dense: Whether dense blocks are asked for.

        Returns:
            What is known of it.
        """

    @abc.abstractmethod
    def proposals(self, system: System, right: Tensor, memory: M, work: Work) -> Iterator[Progress]:
        """Yield the progress at zero, then ever better solutions; the last one has ``solved`` or a failure.

        Args:
            system: From `system`.
            right: The right-hand side, ``[n + m]``.
            memory: What is handed on.
            work: The account that factorizations and refreshes are charged to.

        Returns:
            A generator, which does work only when asked for the next item; residuals are those of the system, or lower
            bounds of them where it is `estimated`.
        """


@dataclasses.dataclass
class Patience:
    """How many iterations a system is given before it is factorized.

    Attributes:
        limit: Half as many after each system that they did not solve, twice as many after each that they did.
    """

    limit: int

    def note(self, *, solved: bool, most: int) -> None:
        """Note how a system ended; ``most`` is the limit at first."""
        self.limit = min(most, 2 * self.limit) if solved else max(LEAST, self.limit // 2)


@final
@dataclasses.dataclass(frozen=True)
class Iterated(Directions[Patience]):
    """Any iteration for linear systems, from zero for each system.

    Attributes:
        inner: The iteration.
        curvature: How the Hessian is made positive definite on the tangent space.
        singular: Where matrices are dense and the `independence` of the rows of ``J`` is at most this, the second block
            of the system is shifted.
        limit: Limit on iterations of one system. Where matrices are dense, a system that has not been solved well
            enough by then is factorized, and the next one earlier: next to a singular one, random projections hardly
            converge.
        precondition: Makes a positive definite preconditioner of the Newton system from its operator.
        equilibrate: Solve ``D Gamma D (D^-1 z) = D right`` with ``D`` such that the rows have entries of at most 1,
            where the matrix is dense; residuals are those of the system itself.
    """

    inner: Iteration
    curvature: Curvature = LeastShift()
    singular: float = 1e-8
    limit: int = 2_000
    precondition: Callable[[KKT], Callable[[Tensor], Tensor]] | None = None
    equilibrate: bool = True

    def memory(self) -> Patience:
        """Return the limit on iterations, all that is handed on."""
        return Patience(self.limit)

    def system(
        self, hessian: Operator, jacobian: Operator, size: float, memory: Patience, work: Work, *, dense: bool
    ) -> System:
        """Choose the shifts from dense blocks, unless neither the curvature nor the caller asks for them."""
        if not self.curvature.dense and not dense:
            return System(size, KKT(hessian, jacobian))
        h, g = materialize(hessian), materialize(jacobian)
        h = (h + h.mT) / 2
        delta = 0.0 if independence(g) > self.singular else DELTA
        shift = self.curvature.shift(h, g, delta)
        below = DenseOperator(g, symmetric=False) if len(g) else jacobian  # no operator's matrix may be empty
        kkt = KKT(DenseOperator(h, symmetric=True), below, shift=shift, delta=delta)
        return System(size, kkt, h, g, shift, estimated=self.equilibrate)

    def proposals(self, system: System, right: Tensor, memory: Patience, work: Work) -> Iterator[Progress]:
        """Yield the progress of the iteration, at its limit that of a factorization."""
        work.factorizations += isinstance(self.inner, Dense)
        precondition = self.precondition(system.operator) if self.precondition is not None else _same
        scale, operator = self._equilibrated(system)
        b = (scale * right)[None]
        for progress in self._progress(operator, b, precondition, system, memory):
            yield _scaled(progress, scale) if system.estimated else progress

    def _progress(
        self, operator: Operator, b: Tensor, precondition: Callable[[Tensor], Tensor], system: System,
        memory: Patience,
    ) -> Iterator[Progress]:  # fmt: skip
        limit = self.limit if system.hessian is None else memory.limit
        memory.note(solved=True, most=self.limit)  # unless what follows says otherwise: a caller stops where it likes
        for count, progress in enumerate(self.inner.iterate(operator, b, precondition, torch.zeros_like(b))):
            limited = count >= limit
            if limited and system.hessian is None:
                yield dataclasses.replace(progress, solved=True)
                return
            if limited:
                break
            yield progress
        else:
            return
        memory.limit = limit
        memory.note(solved=False, most=self.limit)
        for exact in Dense().iterate(operator, b, _same, progress.solution()):
            yield exact if exact.failure is None else dataclasses.replace(exact, failure=None, solved=True)

    def _equilibrated(self, system: System) -> tuple[Tensor, Operator]:
        """Return the factors ``D``, ``[n + m]``, and the scaled operator; ones and itself where it is not dense."""
        kkt = system.operator
        if not system.estimated or system.hessian is None or system.jacobian is None:
            return torch.ones(kkt.shape[0], dtype=kkt.dtype, device=kkt.device), kkt
        matrix = assemble(system.hessian, system.jacobian, shift=kkt.shift, delta=kkt.delta)
        scale = equilibrate(matrix)
        return scale, DenseOperator(scale[:, None] * matrix * scale)


def independence(rows: Tensor) -> float:
    """Return the least singular value of a dense matrix ``[m, n]`` whose rows are made unit vectors; 0 if ``m > n``."""
    m, n = rows.shape
    if m == 0:
        return 1.0
    if m > n or not bool(torch.isfinite(rows).all()):
        return 0.0
    length = rows.norm(dim=1, keepdim=True)
    return float(torch.linalg.svdvals(rows / torch.where(length > 0, length, 1.0))[-1])


def _scaled(progress: Progress, scale: Tensor) -> Progress:
    """Return the progress in terms of the system that was equilibrated, with a lower bound of its residual."""
    largest = float(scale.max()) if scale.numel() else 1.0  # ||D r|| <= max(D) ||r||
    return dataclasses.replace(
        progress, residual=progress.residual / largest, solution=lambda: scale * progress.solution()
    )


def _same(v: Tensor) -> Tensor:
    return v
