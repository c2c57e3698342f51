"""Several iterations of conjugate gradients in one compiled call, for one system with a sparse matrix on the CPU.

At a hundred unknowns an iteration takes less time than Python needs to ask for one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math import conjugate_kernels

    return conjugate_kernels


class ConjugateSteps:
    """Steps of conjugate gradients, with the vectors that they move.

    Args:
        matrix: Row pointers, columns (both unsigned) and values of the matrix.
        sweeps: The arrays of both triangles and the three diagonals of a preconditioner as `two_sweeps` takes them;
            empty for none; ``None`` where somebody else applies it.
        n: Unknowns.
    """

    def __init__(self, matrix: tuple[Array, ...], sweeps: tuple[Array, ...] | None, n: int) -> None:
        self.matrix, self.sweeps = matrix, sweeps
        self.vectors = np.zeros((5, n), matrix[2].dtype)
        self.numbers = np.zeros((5, 1))

    @property
    def scalars(self) -> tuple[Array, Array, Array]:
        """``<r, P r>``, its floor, ``<p, A p>``: shape ``[1]``, the memory that steps use."""
        return self.numbers[0], self.numbers[1], self.numbers[2]

    @property
    def waits(self) -> bool:
        """Whether the next step turns the direction, for which it needs ``P r``."""
        return bool(self.numbers[4, 0])

    def run(self, level: float, most: int, apply: Callable[[], Any]) -> list[float]:
        """Make steps until the norm of the residual is at most ``level``; return these norms, ``most`` at most.

        They end before a step along a direction whose curvature is not positive, or where the residual has vanished.

        Args:
            level: The norm at which to end.
            most: Steps.
            apply: Returns ``P r``, shape ``[n]``, where sweeps do not.

        Returns:
            The norm of the residual after each step.
        """
        if self.sweeps is None:
            return self._applied(level, most, apply)
        norms = np.empty(most)
        if self.sweeps:
            done = _kernels().swept(*self.matrix, *self.sweeps, self.vectors, self.numbers, level, norms)
        else:
            done = _kernels().plain(*self.matrix, self.vectors, self.numbers, level, norms)
        return norms[:done].tolist()

    def _applied(self, level: float, most: int, apply: Callable[[], Any]) -> list[float]:
        """Make steps with ``P r`` from elsewhere."""
        norms: list[float] = []
        step, vectors, numbers = _kernels().step, self.vectors, self.numbers
        dtype, shape = vectors.dtype, (1, vectors.shape[1])
        while len(norms) < most:
            z = vectors[1] if not self.waits else apply()
            if not step(*self.matrix, np.ascontiguousarray(z, dtype).reshape(shape), vectors, numbers):
                break
            norms.append(numbers.item(3))
            if not norms[-1] > level:
                break
        return norms
