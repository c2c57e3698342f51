"""Restarted, right-preconditioned generalized minimum residuals."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from torch import Tensor

from precond.core import BadInputError, Iteration, Map, Operator, Progress, Status
from precond.krylov.inner import column, norm, numbers, ratio
from precond.math.krylov.arnoldi import Small, extend


@final
@dataclasses.dataclass(frozen=True)
class GMRES(Iteration):
    """Restarted GMRES for any square ``A``, preconditioned from the right so that it minimizes the true residual.

    A cycle starts from ``r = b - A x``, ``v_0 = r / ||r||`` and builds an orthonormal basis ``V`` of the Krylov space
    of ``A P`` with ``A P V_j = V_{j+1} H_j`` (Arnoldi). The iterate is ``x + P V_j y`` where ``y`` minimizes
    ``|| beta e_0 - H_j y ||``, ``beta = ||r||``; that small problem is kept triangular by one Givens rotation for each
    column.

    (Y. Saad, M. H. Schultz, *GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems*,
    1986.) The basis is orthogonalized by Gram-Schmidt, twice where that is needed, which is as stable as Householder
    reflections (L. Giraud, J. Langou, M. Rozloznik, J. van den Eshof, 2005).

    Each row of ``b`` is a system of its own. When ``A P v_j`` adds no direction the space is exhausted (lucky
    breakdown): that row stays at its solution.

    Attributes:
        restart: Steps of a cycle, ``m``; a cycle keeps ``m + 1`` vectors.
    """

    restart: int = 30

    def __post_init__(self) -> None:
        """Check the length of a cycle."""
        if self.restart < 1:
            raise BadInputError(f"gmres needs a cycle of at least 1 step, not restart={self.restart}")

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residual is that of the small problem."""
        return cycles(self.restart, operator, b, precondition, x0)


def cycles(
    restart: int, operator: Operator, b: Tensor, precondition: Map, x0: Tensor, *, flexible: bool = False
) -> Iterator[Progress]:
    """Yield the progress of restarted GMRES at ``x0``, then after each step.

    Args:
        restart: Steps of a cycle.
        operator: The matrix.
        b: Right-hand sides, shape ``[batch, n]``.
        precondition: Applies the preconditioner.
        x0: Starting points, shape ``[batch, n]``.
        flexible: Keep what the preconditioner gave in each step, instead of applying it again to their combination.

    Yields:
        The progress; its residual is that of the small problem.
    """
    batch, n = b.shape
    eps, m = torch.finfo(b.dtype).eps, min(restart, n)
    x = x0.clone()
    r = b - operator.matvec(x) if bool(x.any()) else b.clone()
    yield Progress(norm(r), x.clone)
    V = b.new_zeros(batch, m + 1, n)
    Z = b.new_empty(batch, m, n) if flexible else None
    while True:
        size = norm(r)
        V[:, 0] = r * column(ratio(torch.ones_like(size), size))
        beta = size.double().cpu().numpy()
        small = Small.start(beta, m, is_complex=b.is_complex())
        h, alive = np.zeros_like(small.right), beta > 0
        for j in range(m):
            z = precondition(V[:, j])
            if Z is not None:
                Z[:, j] = z
            before, after = extend(V, operator.matvec(z), j, alive, h)
            residual = small.append(h, after, eps * before, j)
            step = _Step(x, V, small, j + 1, precondition, Z)
            if not alive.any():
                solved = bool((residual <= 10 * eps * beta).all())
                failure = None if solved else Status.FAILED_BREAKDOWN
                yield Progress(numbers(residual, b), step.solution, failure=failure, solved=solved)
                return
            yield Progress(numbers(residual, b), step.solution)
        x = step.solution()
        r = b - operator.matvec(x)


@dataclasses.dataclass(frozen=True)
class _Step:
    """What the iterate after ``size`` steps of a cycle is made of."""

    x: Tensor
    V: Tensor
    small: Small
    size: int
    precondition: Map
    Z: Tensor | None

    def solution(self) -> Tensor:
        """Return ``x + P V y``, or ``x + Z y`` where ``Z`` was kept; made once, whoever asks."""
        return self._made

    @functools.cached_property
    def _made(self) -> Tensor:
        k = self.size
        y = torch.from_numpy(self.small.minimizer(k)).to(self.x).unsqueeze(-1)
        if self.Z is not None:
            return self.x + (self.Z[:, :k].mT @ y).squeeze(-1)
        return self.x + self.precondition((self.V[:, :k].mT @ y).squeeze(-1))
