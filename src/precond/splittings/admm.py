"""The alternating direction method of multipliers for convex quadratic programs."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import BadInputError, Proof, Splitting
from precond.splittings.convex_program import ConvexProgram


class ADMM(Splitting):
    """OSQP's splitting as a map of ``(sqrt(sigma) x, sqrt(rho) v)``, in which it is firmly nonexpansive.

    ``(P + sigma I + rho A'A) w = sigma x - q + rho A'(2 clip(v) - v)``, then ``x <- w`` and ``v <- A w + v - clip(v)``;
    ``clip(v)`` is ``A x`` within the bounds, and ``rho (v - clip(v))`` the multipliers. Stellato, Banjac, Goulart,
    Bemporad, Boyd (2020), with relaxation one; certificates by Banjac, Goulart, Stellato, Boyd (2019).

    Args:
        program: The program.
        rho: Weight of the constraints.
        sigma: Weight of the proximal term.
    """

    def __init__(self, program: ConvexProgram, *, rho: float = 1.0, sigma: float = 1e-6) -> None:
        if not (rho > 0 and sigma > 0):
            raise BadInputError(f"rho and sigma must be positive, not {rho} and {sigma}")
        self.program, self.rho, self.sigma = program, float(rho), float(sigma)
        n = program.q.numel()
        matrix = program.P + sigma * scipy.sparse.eye_array(n) + rho * (program.A.T @ program.A)
        self._solve = scipy.sparse.linalg.splu(scipy.sparse.csc_array(matrix)).solve if n else np.asarray

    def start(self) -> Tensor:
        """Return zeros."""
        return torch.zeros(self.program.q.numel() + self.program.lower.numel(), dtype=torch.float64)

    def _split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        n = self.program.q.numel()
        return z[:n] / self.sigma**0.5, z[n:] / self.rho**0.5

    def __call__(self, z: Tensor) -> Tensor:
        """Return the next point."""
        program = self.program
        x, v = self._split(z.double())
        clipped = program.clip(v)
        right = self.sigma * x - program.q + self.rho * program.adjoint(2 * clipped - v)
        w = torch.from_numpy(self._solve(right.numpy()))
        return torch.cat([self.sigma**0.5 * w, self.rho**0.5 * (program.times(w) + v - clipped)])

    def solution(self, z: Tensor) -> dict[str, Tensor]:
        """Return the solution ``x`` and the multipliers ``y``."""
        x, v = self._split(z)
        return {"x": x, "y": self.rho * (v - self.program.clip(v))}

    def shortfall(self, z: Tensor) -> float:
        """Return that of the solution and its multipliers."""
        return self.program.shortfall(**self.solution(z))

    def prove(self, displacement: Tensor) -> Proof | None:
        """Return a proof from the directions in which multipliers and variables grow."""
        x, v = self._split(-displacement)
        return self.program.infeasible(v - self.program.recession(v)) or self.program.unbounded(x)
