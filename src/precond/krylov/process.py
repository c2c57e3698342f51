"""The Arnoldi process of one system in cycles that keep directions: compiled on the CPU, step by step elsewhere."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import Kernel, Look, Map, Operator
from precond.krylov.deflated import Cycle, Directions, Matrix
from precond.krylov.stretches import single, stretch
from precond.math.krylov.arnoldi import Small, extend
from precond.math.krylov.cycle import Arnoldi
from precond.math.krylov.vectors import rows


class Process(abc.ABC):
    """Cycles in the same memory, one after another.

    Attributes:
        broken: Whether the last step found no direction.
    """

    broken = False

    @abc.abstractmethod
    def begin(self, kept: Directions, r: Tensor, beta: float) -> Cycle:
        """Begin a cycle that is orthogonal to some directions, with a residual ``[1, n]`` and its norm."""

    @abc.abstractmethod
    def steps(self, cycle: Cycle) -> Iterator[tuple[float, Sequence[float]]]:
        """Make steps, and note them in the cycle; yield the residual, and those since the last that was yielded."""

    @abc.abstractmethod
    def minimizer(self, size: int) -> Matrix:
        """Return the coefficients of the vectors of so many steps, all that were made, that make it least."""


class Compiled(Process):
    """The process on the CPU; what the preconditioner makes of each vector is kept.

    Args:
        size: Vectors of a cycle besides the first, directions among them.
        operator: The linear map ``A``.
        b: Right-hand side, shape ``[1, n]``.
        precondition: Applies ``P`` to a batch of vectors.
        kernel: The system as compiled loops take it, where somebody knows.
        look: When to yield; after each step where nobody says.
    """

    def __init__(
        self,
        size: int,
        operator: Operator,
        b: Tensor,
        precondition: Map,
        kernel: Kernel | None = None,
        look: Look | None = None,
    ) -> None:
        matrix: Any = single(operator.matvec)
        inverse: Any = _Watched(precondition)
        if kernel is None:
            kernel = Kernel(None, None, lambda products, applications: None)
        else:
            matrix = kernel.matrix or kernel.product or matrix
            inverse = kernel.sweeps if kernel.sweeps is not None else kernel.apply or inverse
        self._watched = inverse if isinstance(inverse, _Watched) else None
        self.kernel, self.look, self.like = kernel, look or Look(), b
        self.arnoldi = Arnoldi(size, b.shape[1], rows(b[:, :0]).dtype, matrix, inverse, flexible=True)
        self.vectors = torch.from_numpy(self.arnoldi.vectors)

    def begin(self, kept: Directions, r: Tensor, beta: float) -> Cycle:
        """Begin a cycle."""
        k = len(kept.u)
        self.vectors[:k] = kept.c
        first = rows(r)
        assert isinstance(first, np.ndarray)
        self.arnoldi.begin(k, first[0], beta)
        return found_by(self.arnoldi, kept)

    def steps(self, cycle: Cycle) -> Iterator[tuple[float, Sequence[float]]]:
        """Make steps until somebody wants to look."""
        while self.arnoldi.left > 0 and not self.broken:
            some = Look(self.look.level, min(self.look.steps, self.arnoldi.left))
            norms = stretch(self.arnoldi, self.kernel, some)
            cycle.done, cycle.g, self.broken = self.arnoldi.done, self.arnoldi.coefficients(), self.arnoldi.broken
            plain = self.arnoldi.plain if self._watched is None else self._watched.same
            cycle.plain = plain and cycle.kept.t is cycle.kept.u
            yield norms[-1], norms[:-1]

    def minimizer(self, size: int) -> Matrix:
        """Return the coefficients."""
        return self.arnoldi.minimizer()


def found_by(arnoldi: Arnoldi, kept: Directions) -> Cycle:
    """Return what the process has found so far, sharing its memory."""
    vectors, size = torch.from_numpy(arnoldi.vectors), arnoldi.size
    made, plain = vectors[size + 1 :], arnoldi.plain and kept.t is kept.u
    return Cycle(kept, vectors[: size + 1], made, arnoldi.coefficients(), plain, arnoldi.done)


class _Watched:
    """A preconditioner for one NumPy vector ``[n]``, which notes whether it has always returned its argument."""

    def __init__(self, precondition: Map) -> None:
        self.precondition, self.same = precondition, True

    def __call__(self, v: Any) -> Any:
        given = torch.from_numpy(v)[None]
        made = self.precondition(given)
        self.same = self.same and made.data_ptr() == given.data_ptr()
        return rows(made)[0]


class Stepwise(Process):
    """The process wherever vectors live; see `Compiled` for the arguments."""

    def __init__(self, size: int, operator: Operator, b: Tensor, precondition: Map) -> None:
        self.size, self.operator, self.like, self.precondition = size, operator, b, precondition

    def begin(self, kept: Directions, r: Tensor, beta: float) -> Cycle:
        """Begin a cycle."""
        k, b = len(kept.u), self.like
        steps = self.size - k
        self.small = Small.start(np.array([beta]), steps, is_complex=b.is_complex())
        cycle = Cycle(
            kept, b.new_empty(self.size + 1, b.shape[1]), b.new_empty(steps, b.shape[1]),
            np.zeros((self.size + 1, steps), self.small.right.dtype), kept.t is kept.u,
        )  # fmt: skip
        cycle.w[:k] = kept.c
        torch.div(r[0], beta, out=cycle.w[k])
        return cycle

    def steps(self, cycle: Cycle) -> Iterator[tuple[float, Sequence[float]]]:
        """Make a step each time."""
        k, eps = len(cycle.kept.u), torch.finfo(self.like.dtype).eps
        h, alive = np.zeros((1, self.size + 1), self.small.right.dtype), np.ones(1, bool)
        for j in range(self.size - k):
            v = cycle.w[k + j : k + j + 1]
            z = self.precondition(v)
            cycle.plain = cycle.plain and z.data_ptr() == v.data_ptr()
            cycle.z[j] = z[0]
            before, after = extend(cycle.w[None], self.operator.matvec(z), k + j, alive, h)
            cycle.g[: k + j + 1, j], cycle.g[k + j + 1, j] = h[0, : k + j + 1], after[0]
            residual = self.small.append(h[:, k:], after, eps * before, j)
            cycle.done, self.broken = j + 1, not alive[0]
            yield float(residual[0]), ()
            if self.broken:
                return

    def minimizer(self, size: int) -> Matrix:
        """Return the coefficients."""
        y: Matrix = self.small.minimizer(size)[0]
        return y
