"""GMRES preconditioned from the left, as SciPy has it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from precond.core import Iteration, Map, Operator, Progress
from precond.krylov.gmres import cycles
from precond.operators import FunctionOperator


@dataclasses.dataclass(frozen=True)
class LeftProgress(Progress):
    """The progress within a cycle.

    Attributes:
        began: ``||b - A x||`` where the cycle began.
    """

    began: float = math.inf


@dataclasses.dataclass(frozen=True)
class LeftGMRES(Iteration):
    """Restarted GMRES of ``M A x = M b``; its residual is ``M (b - A x)``.

    Each cycle solves ``M A d = M (b - A x)`` for a correction ``d`` from zero, so that a preconditioner in single
    precision, whose rounding errors follow the length of the vector it is given, lowers the residual of a system in
    double precision as far as one in double precision does.

    Attributes:
        restart: Steps of a cycle.
    """

    restart: int = 20

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residual is that of the small problem."""
        both = FunctionOperator(lambda v: precondition(operator.matvec(v)), operator.shape, dtype=operator.dtype)
        x, first = x0, True
        while True:
            r = b - operator.matvec(x) if bool(x.any()) else b
            began = float(torch.linalg.vector_norm(r))
            steps = cycles(self.restart, both, precondition(r), torch.clone, torch.zeros_like(x))
            for progress in itertools.islice(steps, 0 if first else 1, 1 + min(self.restart, b.shape[1])):
                moved = _Moved(x, progress)
                yield LeftProgress(
                    progress.residual, moved.solution, failure=progress.failure, solved=progress.solved, began=began
                )
            x, first = moved.solution(), False


@dataclasses.dataclass(frozen=True)
class _Moved:
    """A point from where a progress begins, and the progress."""

    x: Tensor
    progress: Progress

    def solution(self) -> Tensor:
        """Return where it stands."""
        return self.x + self.progress.solution()
