"""Cycles of the Arnoldi process of one system on the CPU, in compiled stretches."""

from __future__ import annotations

from typing import Any

import numpy as np

from precond.math.krylov.stretch import Stretch
from precond.math.krylov.vectors import Array


class Arnoldi(Stretch):
    """Cycles ``A P V = [C; V] H`` (as columns) one after another, in the same memory.

    Each vector is orthogonalized against ``C``, the kept ones, too. The cycle tells the norm of
    ``beta e_0 - H y``, least over ``y``, after each step.

    Args:
        size: Vectors of a cycle besides the first, those that are kept among them.
        n: Length of vectors.
        dtype: Their type.
        matrix: See `Stretch`.
        inverse: See `Stretch`.
        left: The matrix comes first, the preconditioner second.
        flexible: What the preconditioner makes of each vector is kept.

    Attributes:
        size: Vectors of a cycle besides the first.
        kept: How many vectors are kept in this cycle.
    """

    def __init__(
        self, size: int, n: int, dtype: Any, matrix: Any, inverse: Any, *, left: bool = False, flexible: bool = False
    ) -> None:
        beside = 0 if inverse == () else size if flexible else 1
        small = 3 * size + 1 + size**2 + (size + 1) * size
        super().__init__("cycle", (n, n), dtype, matrix, inverse, room=(size + 1 + beside, 8 + small))
        at = self.loops
        self.kept, self.size = 0, size
        self.numbers[at.LEFT], self.numbers[at.ROOM], self.numbers[at.STRIDE] = left, size + 1, int(flexible)

    def begin(self, kept: int, first: Array, norm: float) -> None:
        """Begin a cycle.

        Args:
            kept: How many vectors are kept: the first rows, which are orthonormal.
            first: The first residual, orthogonal to them, shape ``[n]``.
            norm: Its norm, not zero.
        """
        at, numbers = self.loops, self.numbers
        np.multiply(first, 1 / norm, out=self.vectors[kept])
        size = self.size - kept
        numbers[at.KEPT], numbers[at.SIZE], numbers[at.DONE], numbers[at.BROKEN] = kept, size, 0, 0
        numbers[at.STAGE] = 0
        numbers[at.SMALL + 2 * size] = norm
        self.kept, self.ended = kept, False

    @property
    def done(self) -> int:
        """Steps of the cycle so far."""
        return int(self.numbers[self.loops.DONE].real)

    @property
    def left(self) -> int:
        """Steps for which there is room."""
        return self.size - self.kept - self.done

    @property
    def broken(self) -> bool:
        """Whether the last step found no direction."""
        return bool(self.numbers[self.loops.BROKEN].real)

    def minimizer(self) -> Array:
        """Return ``y``, shape ``[done]``."""
        y: Array = self.loops.minimizer(self.numbers)
        return y

    def coefficients(self) -> Array:
        """Return ``[B; H]`` with ``A P V = C B + V H`` (as columns), shape ``[kept + done + 1, done]``."""
        size, done = self.size - self.kept, self.done
        at = self.loops.SMALL + 3 * size + 1 + size**2
        columns = self.numbers[at : at + (self.size + 1) * done].reshape(done, self.size + 1)
        return columns[:, : self.kept + done + 1].T
