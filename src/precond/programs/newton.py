"""Newton systems of programs in three forms, dense, sparse and by products: what regularization needs of each."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.math.sparse.inertia import Factorization, equilibrate, factorize
from precond.math.sparse.kkt_pattern import Factors, Patterns
from precond.operators.kkt import assemble

TINY = 1e-10
"""Shift of the second block of sparse systems, equilibrated, so that their pivots may be taken from the diagonal."""
ROUGH = 1e-8
"""A relative residual above which a solution with pivots from the diagonal is not good enough."""


class Solver(abc.ABC):
    """A Newton system ``[[H + shift, J'], [J, -delta]]`` that can be solved.

    Attributes:
        shift: Shift of the Hessian.
        delta: Shift of the second block.
    """

    shift: float
    delta: float

    @abc.abstractmethod
    def solve(self, b: Tensor) -> Tensor:
        """Return the solution for ``[n + m]``."""


class Newton(abc.ABC):
    """The blocks of a Newton system, before any shift."""

    deltas: ClassVar[tuple[float, ...]] = (0.0, 1e-8)
    """Shifts of the second block that are worth trying, the least first."""
    inner: int = 0
    """Inner iterations so far."""

    @abc.abstractmethod
    def attempt(self, shift: float, delta: float) -> Solver | None:
        """Return what solves the system, or ``None`` where the Hessian is not positive on the null space of ``J``."""

    @property
    @abc.abstractmethod
    def finite(self) -> bool:
        """Whether all entries are finite."""


@dataclasses.dataclass(frozen=True)
class DenseNewton(Newton):
    """Dense blocks, factorized with symmetric pivoting.

    Attributes:
        hessian: ``[n, n]``.
        jacobian: ``[m, n]``.
    """

    hessian: Tensor
    jacobian: Tensor

    @property
    def finite(self) -> bool:
        """Whether all entries are finite."""
        return bool(torch.isfinite(self.hessian).all() and torch.isfinite(self.jacobian).all())

    def attempt(self, shift: float, delta: float) -> Solver | None:
        """Factorize; ``None`` where the inertia is not ``(n, m, 0)``."""
        m, n = self.jacobian.shape
        matrix = assemble(self.hessian, self.jacobian, shift=shift, delta=delta)
        scale = equilibrate(matrix)
        found = factorize(scale[:, None] * matrix * scale)
        if found is None or (found.positive, found.negative) != (n, m):
            return None
        return DenseSolver(matrix, found, scale, shift, delta)


@dataclasses.dataclass(frozen=True)
class DenseSolver(Solver):
    """A factorized dense system.

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


class SparseNewton(Newton):
    """Sparse blocks, factorized with pivots from the diagonal, whose signs tell the inertia.

    The second block is shifted by at least ``TINY`` in equilibrated units, which makes the matrix strongly
    factorizable where the Hessian is definite on the null space (R. J. Vanderbei, *Symmetric quasidefinite matrices*,
    1995); solutions are refined.

    Args:
        hessian: CSR, ``[n, n]``.
        jacobian: CSR, ``[m, n]``.
        diagonal: Added to the Hessian, ``[n]``.
        patterns: What is known of systems like this one, so that their order of elimination is found once.
    """

    deltas: ClassVar[tuple[float, ...]] = (0.0,)

    def __init__(
        self, hessian: scipy.sparse.csr_array, jacobian: scipy.sparse.csr_array, diagonal: Tensor,
        patterns: Patterns | None = None,
    ) -> None:  # fmt: skip
        self.m, self.n = jacobian.shape
        self._like = diagonal
        self.pattern = (Patterns() if patterns is None else patterns).of(hessian, jacobian)
        self.matrix = self.pattern.assemble(hessian, jacobian, diagonal.cpu().double().numpy())

    @property
    def finite(self) -> bool:
        """Whether all entries are finite."""
        return bool(np.isfinite(self.matrix.data).all())

    def attempt(self, shift: float, delta: float) -> Solver | None:
        """Factorize; ``None`` where the inertia is not ``(n, m, 0)`` or cannot be told."""
        pattern = self.pattern
        data = self.matrix.data.copy()
        data[pattern.diagonal[: self.n]] += shift
        scale = pattern.equilibrate(data)
        least = np.maximum(delta, TINY / scale[self.n :] ** 2)
        data[pattern.diagonal[self.n :]] -= least
        scaled = data * scale[pattern.indices] * scale[pattern.columns]
        try:
            factors = pattern.factorize(scaled)
        except RuntimeError:  # exactly singular
            return None
        if factors.inertia() != (self.n, self.m):
            return None
        return SparseSolver(
            pattern.matrix(data), pattern.matrix(scaled), factors, scale, self._like, shift,
            float(least.max(initial=0.0)),
        )  # fmt: skip


@dataclasses.dataclass
class SparseSolver(Solver):
    """A factorized sparse system.

    Attributes:
        matrix: The matrix with its shifts.
        scaled: The equilibrated matrix.
        factors: Its factors.
        scale: What it was equilibrated with.
        like: A tensor of the type and device of vectors.
        shift: Shift of the Hessian.
        delta: Shift of the second block.
    """

    matrix: scipy.sparse.csc_array
    scaled: scipy.sparse.csc_array
    factors: Factors
    scale: np.ndarray[Any, Any]
    like: Tensor
    shift: float
    delta: float

    def solve(self, b: Tensor) -> Tensor:
        """Return the solution for ``[n + m]``, refined; factorized anew with pivoting where that is not enough."""
        right = b.detach().cpu().double().numpy()
        x, left = self._refined(right)
        if not left <= ROUGH:
            try:
                self.factors = Factors(scipy.sparse.linalg.splu(self.scaled), None)
                again, lower = self._refined(right)
                x = again if lower < left or not math.isfinite(left) else x
            except RuntimeError:  # singular: what there is will have to do
                pass
        return torch.from_numpy(x).to(self.like)

    def _refined(self, b: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float]:
        size = float(np.linalg.norm(b)) or 1.0
        x = self.scale * self.factors.solve(self.scale * b)
        r = b - self.matrix @ x
        left = float(np.linalg.norm(r)) / size
        for _ in range(5):
            if not (math.isfinite(left) and left > 1e-15):
                break
            better = x + self.scale * self.factors.solve(self.scale * r)
            r = b - self.matrix @ better
            now = float(np.linalg.norm(r)) / size
            if not now < left / 2:
                break
            x, left = better, now
        return x, left
