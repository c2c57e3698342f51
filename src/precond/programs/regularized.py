"""Newton systems of programs, factorized with as much regularization as their inertia needs."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from precond.math.inertia import Factorization, equilibrate, factorize
from precond.operators.kkt import assemble

SMALLEST, FIRST, LARGEST = 1e-20, 1e-4, 1e40
SHRINK, GROW, GROW_FIRST = 1 / 3, 8.0, 100.0
DELTA = 1e-8


@dataclasses.dataclass
class Regularizer:
    """Finds the shifts of the two blocks of a Newton system, and remembers the last one.

    The Hessian's shift grows until the matrix has as many positive eigenvalues as there are variables, and as many
    negative ones as there are equations: then the step is a minimizer on the linearized constraints. The second block
    is shifted by a little where the Jacobian has not full rank.

    Source: A. Waechter, L. T. Biegler, 2006, algorithm IC.

    Attributes:
        last: The last positive shift of the Hessian; zero before there was one.
    """

    last: float = 0.0

    def factorize(self, hessian: Tensor, jacobian: Tensor) -> Solver | None:
        """Return the factorized system, or ``None`` when no shift helps (entries that are not finite).

        Args:
            hessian: ``[n, n]``, any diagonal of bounds included.
            jacobian: ``[m, n]``.

        Returns:
            What solves it.
        """
        m, n = jacobian.shape
        if not bool(torch.isfinite(hessian).all() and torch.isfinite(jacobian).all()):
            return None
        for shift, delta in ((0.0, 0.0), (0.0, DELTA)):
            solver = self._try(hessian, jacobian, shift, delta, n, m)
            if solver is not None:
                return solver
        shift = FIRST if self.last == 0 else max(SMALLEST, SHRINK * self.last)
        while shift <= LARGEST:
            for delta in (0.0, DELTA):
                solver = self._try(hessian, jacobian, shift, delta, n, m)
                if solver is not None:
                    self.last = shift
                    return solver
            shift *= GROW_FIRST if self.last == 0 else GROW
        return None

    def _try(self, hessian: Tensor, jacobian: Tensor, shift: float, delta: float, n: int, m: int) -> Solver | None:
        matrix = assemble(hessian, jacobian, shift=shift, delta=delta)
        scale = equilibrate(matrix)
        found = factorize(scale[:, None] * matrix * scale)
        if found is None or (found.positive, found.negative) != (n, m):
            return None
        return Solver(matrix, found, scale, shift, delta)


@dataclasses.dataclass(frozen=True)
class Solver:
    """A factorized Newton system.

    Attributes:
        matrix: The matrix with its shifts, ``[n + m, n + m]``.
        factorization: Factors of the equilibrated matrix.
        scale: What it was equilibrated with, ``[n + m]``.
        shift: Shift of the Hessian.
        delta: Shift of the second block.
    """

    matrix: Tensor
    factorization: Factorization
    scale: Tensor
    shift: float
    delta: float

    def solve(self, b: Tensor) -> Tensor:
        """Return the solution for ``[n + m]``, refined while that helps."""
        x = self._once(b)
        r = b - self.matrix @ x
        size = float(r.norm())
        for _ in range(3):
            if not (math.isfinite(size) and size > 1e-16 * float(b.norm())):
                break
            better = x + self._once(r)
            r = b - self.matrix @ better
            if not float(r.norm()) < size / 2:
                break
            x, size = better, float(r.norm())
        return x

    def _once(self, b: Tensor) -> Tensor:
        return self.scale * self.factorization.solve(self.scale * b)
