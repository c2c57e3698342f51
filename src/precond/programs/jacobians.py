"""What methods for programs ask of Jacobians, whether dense, sparse or known by products."""

from __future__ import annotations

import abc
import dataclasses
import math

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Operator
from precond.core.materialize import fits, materialize, sparse_entries
from precond.krylov.cg import CG
from precond.krylov.run import run
from precond.math.sparse.kkt_pattern import Patterns
from precond.operators.function import FunctionOperator
from precond.programs.newton import SparseNewton

DENSE = 2**27
"""Bytes up to which a Jacobian without entries is made dense for these."""
PROBES = 8


def frobenius(jacobian: Operator, rows: Tensor) -> float:
    """Return the Frobenius norm of ``diag(rows) J``, estimated where only products are known."""
    matrix = sparse_entries(jacobian)
    if matrix is not None:
        return float(np.linalg.norm((scipy.sparse.diags_array(rows.cpu().numpy()) @ matrix).data))
    if fits(jacobian, DENSE):
        return float((materialize(jacobian) * rows[:, None]).norm())
    return float((jacobian.matvec(_signs(jacobian)) * rows).square().sum(1).mean().sqrt())


def largest_entries(jacobian: Operator) -> Tensor:
    """Return the largest ``|J_ij|`` of each row, ``[m]``; norms of rows, estimated, where only products are known."""
    matrix = sparse_entries(jacobian)
    m = jacobian.shape[0]
    if matrix is not None:
        largest = abs(matrix).max(axis=1).toarray().ravel() if min(matrix.shape) else np.zeros(m)
        return torch.from_numpy(np.asarray(largest, dtype=np.float64)).to(jacobian.device, jacobian.dtype)
    if fits(jacobian, DENSE):
        dense = materialize(jacobian).abs()
        return dense.amax(1) if dense.numel() else dense.new_zeros(m)
    return jacobian.matvec(_signs(jacobian)).square().mean(0).sqrt()


def _signs(jacobian: Operator) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (PROBES, jacobian.shape[1]), generator=generator) * 2 - 1
    return signs.to(jacobian.device, jacobian.dtype)


class Damped(abc.ABC):
    """Levenberg-Marquardt steps of ``c`` in scaled variables: with the Jacobian ``J D``."""

    size: float
    """Frobenius norm of ``J D``."""

    @staticmethod
    def of(jacobian: Operator, rows: Tensor, distance: Tensor) -> Damped:
        """Return them for ``diag(rows) J`` and ``D = diag(distance)`` in the form that the Jacobian allows."""
        matrix = sparse_entries(jacobian)
        if matrix is not None:
            by_row, by_column = (scipy.sparse.diags_array(v.cpu().numpy()) for v in (rows, distance))
            return SparseDamped(scipy.sparse.csr_array(by_row @ matrix @ by_column), distance)
        if fits(jacobian, DENSE):
            return DenseDamped.with_gram(materialize(jacobian) * rows[:, None] * distance)
        return ProductDamped(jacobian, rows, distance)

    @abc.abstractmethod
    def pull(self, c: Tensor) -> Tensor:
        """Return ``(J D)' c``, ``[n]``."""

    @abc.abstractmethod
    def push(self, d: Tensor) -> Tensor:
        """Return ``J D d``, ``[m]``."""

    @abc.abstractmethod
    def step(self, c: Tensor, damping: float) -> Tensor | None:
        """Return the minimizer of ``||c + J D d||^2 + damping ||d||^2``, ``[n]``; ``None`` where it cannot be had."""


@dataclasses.dataclass(frozen=True)
class DenseDamped(Damped):
    """By Cholesky factors of the Gram matrix of the shorter side.

    Attributes:
        matrix: ``J D``, ``[m, n]``.
        gram: ``(J D)' J D``, or ``J D (J D)'`` where that is smaller.
        size: See `Damped`.
    """

    matrix: Tensor
    gram: Tensor
    size: float

    @classmethod
    def with_gram(cls, matrix: Tensor) -> DenseDamped:
        """Return the steps for ``J D``."""
        m, n = matrix.shape
        gram = matrix.mT @ matrix if n <= m else matrix @ matrix.mT
        return cls(matrix, gram, float(matrix.norm()))

    def pull(self, c: Tensor) -> Tensor:
        """Return ``(J D)' c``."""
        return c @ self.matrix

    def push(self, d: Tensor) -> Tensor:
        """Return ``J D d``."""
        return self.matrix @ d

    def step(self, c: Tensor, damping: float) -> Tensor | None:
        """Return the minimizer; ``None`` where rounding leaves the Gram matrix indefinite."""
        m, n = self.matrix.shape
        shifted = self.gram.clone()
        shifted.diagonal().add_(damping)
        factor, info = torch.linalg.cholesky_ex(shifted)
        if int(info):
            return None
        if n <= m:
            return -torch.cholesky_solve(self.pull(c)[:, None], factor)[:, 0]
        return -self.matrix.mT @ torch.cholesky_solve(c[:, None], factor)[:, 0]


class SparseDamped(Damped):
    """By sparse factors of ``[[damping I, (J D)'], [J D, -I]]``.

    Args:
        matrix: ``J D``, CSR.
        like: A vector ``[n]``.
    """

    def __init__(self, matrix: scipy.sparse.csr_array, like: Tensor) -> None:
        self.matrix, self._like, self._patterns = matrix, like, Patterns()
        self.size = float(np.linalg.norm(matrix.data))

    def pull(self, c: Tensor) -> Tensor:
        """Return ``(J D)' c``."""
        return torch.from_numpy(self.matrix.T @ c.cpu().numpy()).to(self._like)

    def push(self, d: Tensor) -> Tensor:
        """Return ``J D d``."""
        return torch.from_numpy(self.matrix @ d.cpu().numpy()).to(self._like)

    def step(self, c: Tensor, damping: float) -> Tensor | None:
        """Return the minimizer; ``None`` where the factorization fails."""
        n = self.matrix.shape[1]
        root = math.sqrt(damping)  # [[root I, A'], [A, -root I]] is better balanced and has the same solution in d
        system = SparseNewton(
            scipy.sparse.csr_array((n, n)), self.matrix, torch.full_like(self._like, root), self._patterns
        )
        solver = system.attempt(0.0, root)
        if solver is None:
            return None
        return solver.solve(torch.cat([self._like.new_zeros(n), -c]))[:n]


class ProductDamped(Damped):
    """By conjugate gradients on the normal equations; the norm of ``J D`` is estimated.

    Args:
        jacobian: ``J``.
        rows: Factors of its rows, ``[m]``.
        distance: ``D``, ``[n]``.
    """

    def __init__(self, jacobian: Operator, rows: Tensor, distance: Tensor) -> None:
        self.jacobian, self.rows, self.distance = jacobian, rows, distance
        signs = _signs(jacobian) * distance
        self.size = float((jacobian.matvec(signs) * rows).square().sum(1).mean().sqrt())

    def pull(self, c: Tensor) -> Tensor:
        """Return ``(J D)' c``."""
        return self.jacobian.rmatvec((c * self.rows)[None])[0] * self.distance

    def push(self, d: Tensor) -> Tensor:
        """Return ``J D d``."""
        return self.jacobian.matvec((d * self.distance)[None])[0] * self.rows

    def step(self, c: Tensor, damping: float) -> Tensor | None:
        """Return a minimizer to four digits, in at most 200 products."""

        def normal(v: Tensor) -> Tensor:
            return torch.stack([self.pull(self.push(row)) + damping * row for row in v])

        n = self.distance.numel()
        operator = FunctionOperator(
            normal, (n, n), dtype=self.distance.dtype, device=self.distance.device, symmetric=True, definite=True
        )
        right = -self.pull(c)[None]
        bound = 1e-4 * float(right.norm())
        progress, _ = run(
            CG(), operator, right, lambda v: v, torch.zeros_like(right),
            stop=lambda p: bool((p.residual <= bound).all()), max_iterations=200,
        )  # fmt: skip
        return progress.solution()[0]
