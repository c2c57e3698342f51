"""The Douglas-Rachford splitting for points of an affine space that are not negative."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from precond.core import Proof, Splitting
from precond.splittings.convex_program import ConvexProgram


class DouglasRachford(Splitting):
    """Find ``A x = b``, ``x >= 0``: ``z <- z + P_A(2 P_B(z) - z) - P_B(z)``, ``P_B`` the positive part.

    Where there is no such point, ``z - T(z)`` tends to a vector ``v >= 0`` of the range of ``A'``, and with
    ``A' y = v``, ``b' y < 0`` (Farkas).

    Args:
        A: The equations, ``[m, n]``, dense.
        b: Their right-hand sides, ``[m]``.
    """

    def __init__(self, A: Any, b: Any) -> None:
        empty = torch.zeros(0, dtype=torch.float64)
        matrix = torch.as_tensor(A, dtype=torch.float64)
        rows = torch.cat([matrix, torch.eye(matrix.shape[1], dtype=torch.float64)])
        b = torch.as_tensor(b, dtype=torch.float64)
        zero = torch.zeros(matrix.shape[1], dtype=torch.float64)
        self.program = ConvexProgram(
            None, zero, rows, torch.cat([b, zero]), torch.cat([b, torch.full_like(zero, torch.inf)])
        )
        self._matrix, self._b = matrix, b
        self._pinv = torch.linalg.pinv(matrix) if matrix.numel() else empty.reshape(matrix.shape[1], 0)
        self._shift = self._pinv @ b

    def start(self) -> Tensor:
        """Return zeros."""
        return torch.zeros(self._matrix.shape[1], dtype=torch.float64)

    def _affine(self, x: Tensor) -> Tensor:
        return x - self._pinv @ (self._matrix @ x) + self._shift

    def __call__(self, z: Tensor) -> Tensor:
        """Return the next point."""
        z = z.double()
        positive = z.clamp(min=0)
        return z + self._affine(2 * positive - z) - positive

    def solution(self, z: Tensor) -> Tensor:
        """Return the point that is not negative."""
        return z.clamp(min=0)

    def shortfall(self, z: Tensor) -> float:
        """Return what is left of the equations, over one and the size of their right-hand sides."""
        left = self._matrix @ self.solution(z) - self._b
        return float(left.norm()) / (1.0 + float(self._b.norm()))

    def prove(self, displacement: Tensor) -> Proof | None:
        """Return Farkas' proof: multipliers of the equations, and minus those of the signs."""
        y = self._pinv.mT @ displacement
        return self.program.infeasible(torch.cat([y, -(self._matrix.mT @ y)]))
