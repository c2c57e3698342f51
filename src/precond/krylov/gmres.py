"""Restarted, right-preconditioned generalized minimum residuals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from precond.core import BadInputError, Iteration, Map, Operator, Progress, Status
from precond.krylov.inner import column, norm, ratio


@final
@dataclasses.dataclass(frozen=True)
class GMRES(Iteration):
    """Restarted GMRES for any square ``A``, preconditioned from the right so that it minimizes the true residual.

    A cycle starts from ``r = b - A x``, ``v_0 = r / ||r||`` and builds an orthonormal basis ``V`` of the Krylov space
    of ``A P`` with ``A P V_j = V_{j+1} H_j`` (Arnoldi). The iterate is ``x + P V_j y`` where ``y`` minimizes
    ``|| beta e_0 - H_j y ||``, ``beta = ||r||``; that small problem is kept triangular by one Givens rotation for each
    column, gathered in ``Q``: ``Q H = R``.

    (Y. Saad, M. H. Schultz, *GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems*,
    1986.) The basis is orthogonalized by classical Gram-Schmidt twice, which is as stable as Householder reflections
    (L. Giraud, J. Langou, M. Rozloznik, J. van den Eshof, 2005) and needs two products instead of ``j``.

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
    (batch, n), eps = b.shape, torch.finfo(b.dtype).eps
    m = min(restart, n)
    x = x0.clone()
    r = b - operator.matvec(x) if bool(x.any()) else b.clone()
    yield Progress(norm(r), x.clone)
    V = b.new_empty(batch, m + 1, n)
    Z = b.new_empty(batch, m, n) if flexible else None
    while True:
        beta = norm(r)
        V[:, 0] = r * column(ratio(torch.ones_like(beta), beta))
        Q = torch.eye(m + 1, dtype=b.dtype, device=b.device).repeat(batch, 1, 1)
        R = b.new_zeros(batch, m, m)
        alive = beta > 0
        for j in range(m):
            z = precondition(V[:, j])
            if Z is not None:
                Z[:, j] = z
            w = operator.matvec(z)
            before = norm(w)
            h, w = _orthogonalize(w, V[:, : j + 1])
            after = norm(w)
            alive = alive & (after > eps * before)
            after = torch.where(alive, after, 0)
            V[:, j + 1] = w * column(ratio(torch.ones_like(after), after))

            h = (Q[:, : j + 1, : j + 1] @ h.unsqueeze(-1)).squeeze(-1)  # the rotations so far
            _rotate(h, after, Q, R, j, eps * before)
            residual = beta * Q[:, j + 1, 0].abs()
            step = _Step(x, V, Q, R, beta, j + 1, precondition, Z)
            if not bool(alive.any()):
                solved = bool((residual <= 10 * eps * beta).all())
                failure = None if solved else Status.FAILED_BREAKDOWN
                yield Progress(residual, step.solution, failure=failure, solved=solved)
                return
            yield Progress(residual, step.solution)
        x = step.solution()
        r = b - operator.matvec(x)


@dataclasses.dataclass(frozen=True)
class _Step:
    """What the iterate after ``size`` steps of a cycle is made of."""

    x: Tensor
    V: Tensor
    Q: Tensor
    R: Tensor
    beta: Tensor
    size: int
    precondition: Map
    Z: Tensor | None

    def solution(self) -> Tensor:
        """Return ``x + P V y`` (``x + Z y`` where ``Z`` was kept) with ``R y = beta Q e_0``."""
        k = self.size
        right = (self.beta.unsqueeze(-1) * self.Q[:, :k, 0]).unsqueeze(-1)
        y = torch.linalg.solve_triangular(self.R[:, :k, :k], right, upper=True)
        if self.Z is not None:
            return self.x + (self.Z[:, :k].mT @ y).squeeze(-1)
        return self.x + self.precondition((self.V[:, :k].mT @ y).squeeze(-1))


def _orthogonalize(w: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coefficients of ``w`` in the basis ``V`` and what is left, by classical Gram-Schmidt twice."""
    h = torch.zeros(V.shape[:2], dtype=w.dtype, device=w.device)
    for _ in range(2):
        projection = torch.einsum("bjn,bn->bj", V.conj(), w)
        w = w - torch.einsum("bjn,bj->bn", V, projection)
        h = h + projection
    return h, w


def _rotate(h: Tensor, after: Tensor, Q: Tensor, R: Tensor, j: int, tiny: Tensor) -> None:
    """Append the column ``(h, after)`` to ``R`` and the rotation that clears ``after`` to ``Q``, in place.

    A column without a pivot (a dependent direction) gets pivot 1 and the rotation that swaps its rows, which makes its
    coefficient zero and leaves the residual as it was.
    """
    pivot = torch.sqrt(h[:, j].abs() ** 2 + after**2)
    empty = pivot <= tiny
    c = torch.where(empty, 0, ratio(h[:, j], pivot.to(h.dtype)))
    s = torch.where(empty, 1, ratio(after, pivot))
    R[:, :j, j] = h[:, :j]
    R[:, j, j] = torch.where(empty, 1, pivot)
    here, below = Q[:, j].clone(), Q[:, j + 1].clone()
    Q[:, j] = column(c.conj()) * here + column(s) * below
    Q[:, j + 1] = column(c) * below - column(s) * here
