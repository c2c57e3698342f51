"""Newton systems of programs with as much regularization as their inertia needs."""

from __future__ import annotations

import dataclasses

from precond.programs.newton import Newton, Solver

SMALLEST, FIRST, LARGEST = 1e-20, 1e-4, 1e40
SHRINK, GROW, GROW_FIRST = 1 / 3, 8.0, 100.0


@dataclasses.dataclass
class Regularizer:
    """Finds the shifts of the two blocks of a Newton system, and remembers the last one.

    The Hessian's shift grows until the matrix has as many positive eigenvalues as there are variables, and as many
    negative ones as there are equations: then the step is a minimizer on the linearized constraints. The second block
    is shifted by a little where the Jacobian has not full rank.

    Source: A. Waechter, L. T. Biegler, 2006, algorithm IC.

    Attributes:
        last: The last positive shift of the Hessian; zero before there was one.
        attempts: Systems that were tried.
    """

    last: float = 0.0
    attempts: int = 0

    def factorize(self, newton: Newton) -> Solver | None:
        """Return what solves the system, or ``None`` when no shift helps (entries that are not finite)."""
        if not newton.finite:
            return None
        for delta in newton.deltas:
            solver = self._try(newton, 0.0, delta)
            if solver is not None:
                return solver
        shift = FIRST if self.last == 0 else max(SMALLEST, SHRINK * self.last)
        while shift <= LARGEST:
            for delta in newton.deltas:
                solver = self._try(newton, shift, delta)
                if solver is not None:
                    self.last = shift
                    return solver
            shift *= GROW_FIRST if self.last == 0 else GROW
        return None

    def _try(self, newton: Newton, shift: float, delta: float) -> Solver | None:
        self.attempts += 1
        return newton.attempt(shift, delta)
