"""The primal-dual hybrid gradient method for linear programs."""

from __future__ import annotations

import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import IncompatibleError, Proof, Splitting
from precond.splittings.convex_program import ConvexProgram


class PDHG(Splitting):
    """``x <- x - tau (q + A'y)``, ``y <- t - sigma clip(t / sigma)`` with ``t = y + sigma A (2 x_new - x)``.

    Nonexpansive in the norm of ``[[I/tau, -A'], [-A, I/sigma]]`` while ``tau sigma ||A||^2 <= 1`` (Chambolle and Pock,
    2011); of linear programs (Applegate et al., Infeasibility detection with primal-dual hybrid gradient, 2024).

    Args:
        program: The program, with ``P = 0``.
        weight: ``sigma / tau``.
    """

    def __init__(self, program: ConvexProgram, *, weight: float = 1.0) -> None:
        if program.P.nnz and abs(program.P).max() > 0:
            raise IncompatibleError("this splitting is for linear programs: use ADMM(program)")
        self.program = program
        entries = program.A
        norm = 1.0
        if entries.nnz:
            k = min(entries.shape)
            norm = float(scipy.sparse.linalg.svds(entries, 1, return_singular_vectors=False)[0]) if k > 1 else float(
                scipy.sparse.linalg.norm(entries))  # fmt: skip
        self.tau = 0.99 / (norm or 1.0) / weight**0.5
        self.sigma = 0.99 / (norm or 1.0) * weight**0.5

    def start(self) -> Tensor:
        """Return zeros."""
        return torch.zeros(self.program.q.numel() + self.program.lower.numel(), dtype=torch.float64)

    def _split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        n = self.program.q.numel()
        return z[:n], z[n:]

    def __call__(self, z: Tensor) -> Tensor:
        """Return the next point."""
        x, y = self._split(z.double())
        new = x - self.tau * (self.program.q + self.program.adjoint(y))
        t = y + self.sigma * self.program.times(2 * new - x)
        return torch.cat([new, t - self.sigma * self.program.clip(t / self.sigma)])

    def solution(self, z: Tensor) -> dict[str, Tensor]:
        """Return the solution ``x`` and the multipliers ``y``."""
        x, y = self._split(z)
        return {"x": x, "y": y}

    def shortfall(self, z: Tensor) -> float:
        """Return that of the solution and its multipliers."""
        return self.program.shortfall(**self.solution(z))

    def prove(self, displacement: Tensor) -> Proof | None:
        """Return a proof from the directions in which multipliers and variables grow."""
        x, y = self._split(-displacement)
        return self.program.infeasible(y) or self.program.unbounded(x)
