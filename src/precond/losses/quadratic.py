"""Quadratic functions with a known symmetric matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import BadInputError, Coordinates, Operator, OperatorTraits, Work
from precond.losses.base import Loss
from precond.losses.design import Times
from precond.losses.read_design import read_design


class Quadratic(Loss):
    """``f(x) = 1/2 x' A x - c' x`` with a symmetric matrix.

    Args:
        A: The matrix ``[n, n]``, dense (NumPy, torch) or sparse (SciPy, torch).
        c: The linear term, ``[n]``; ``None`` means zero.
    """

    def __init__(self, A: Any, c: Any = None) -> None:
        self.design = read_design(A)
        m, n = self.design.shape
        if m != n:
            raise BadInputError(f"A has shape {self.design.shape}: a quadratic function has a square matrix")
        self.variables, self.dtype = n, self.design.dtype
        c = np.zeros(n) if c is None else c
        vector = c.detach() if isinstance(c, Tensor) else torch.as_tensor(np.asarray(c))
        self.c = vector.to(self.design.device, self.dtype).reshape(-1)
        if self.c.numel() != n:
            raise BadInputError(f"A has {n} rows and c has {self.c.numel()} entries: give one for each row")
        if not bool(torch.isfinite(self.c).all()):
            raise BadInputError("c has an entry that is not finite: replace it")
        probe = torch.linspace(1.0, 2.0, n, dtype=self.dtype, device=self.design.device)
        once, other = self.design.matvec(probe), self.design.rmatvec(probe)
        if n and bool((once - other).abs().max() > 1e-4 * once.abs().max()):
            raise BadInputError("A is not symmetric: give (A + A') / 2, which is the same function")

    def __call__(self, x: Tensor) -> Tensor:
        """Return the value at ``x`` ``[n]``."""
        x = x.to(self.dtype)
        product = Times.apply(x, self.design, False) if x.requires_grad else self.design.matvec(x)
        return x.dot(product) / 2 - self.c.dot(x)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and gradient."""
        x = x.detach().to(self.dtype)
        product = self.design.matvec(x)
        return x.dot(product) / 2 - self.c.dot(x), product - self.c

    def hessian(self, x: Tensor, work: Work) -> Operator:
        """Return the matrix."""
        return QuadraticHessian(self, work)

    def coordinates(self, x: Tensor, work: Work) -> Coordinates:
        """Return the function with its gradient kept up to date."""
        return QuadraticCoordinates(self, x, work)

    def lipschitz(self) -> float:
        """Return the largest sum of sizes of a row, or the largest singular value."""
        if not self.variables:
            return 0.0
        return min(float(self.design.row_sums().max()), math.sqrt(self.design.largest_eigenvalue()))


class QuadraticHessian(Operator):
    """The matrix of a quadratic function.

    Args:
        quadratic: The function.
        work: The account that products are charged to.
    """

    def __init__(self, quadratic: Quadratic, work: Work) -> None:
        n = quadratic.variables
        self.shape, self.dtype, self.device = (n, n), quadratic.dtype, quadratic.design.device
        self.traits = OperatorTraits(symmetric=True)
        self._quadratic, self._work = quadratic, work

    def matvec(self, x: Tensor) -> Tensor:
        """Return the product with each row of ``x``, and count one for each."""
        self._work.hvps += len(x)
        return self._quadratic.design.rmatvec(x)

    def block(self, index: Tensor) -> Tensor:
        """Return the entries of some rows and columns, ``[k, k]``, counted as ``k`` products."""
        self._work.hvps += len(index)
        return self._quadratic.design.block(index)


class QuadraticCoordinates(Coordinates):
    """A quadratic function whose gradient follows the moves.

    Args:
        quadratic: The function.
        x: The starting point, ``[n]``.
        work: The account: the first gradient counts as one, moves as their share of the columns.
    """

    refresh_every = 1000
    """Moves after which the gradient is computed anew, as errors of rounding add up."""

    def __init__(self, quadratic: Quadratic, x: Tensor, work: Work) -> None:
        super().__init__(x.to(quadratic.dtype))
        self.quadratic, self._work = quadratic, work
        self._gradient = quadratic.design.matvec(self.x) - quadratic.c
        work.gradients += 1
        self._moves, self._share = 0, 0.0
        self._sums: Tensor | None = None

    def value(self) -> Tensor:
        """Return the function at the current point."""
        return self.x.dot(self._gradient - self.quadratic.c) / 2

    def trial(self, block: Tensor, d: Tensor) -> Tensor:
        """Return the function after a move that is not made."""
        quadratic = d.dot(self.quadratic.design.block(block) @ d) / 2
        return self.value() + self._gradient[block].dot(d) + quadratic

    def gradient(self) -> Tensor:
        """Return the gradient at the current point."""
        return self._gradient

    def partial(self, block: Tensor) -> Tensor:
        """Return a part of the gradient."""
        return self._gradient[block]

    def hessian(self, block: Tensor) -> Tensor:
        """Return the entries of a block."""
        return self.quadratic.design.block(block)

    def bound(self, block: Tensor) -> Tensor:
        """Return the entries of a block."""
        return self.quadratic.design.block(block)

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the matrix if it is sparse."""
        return self.quadratic.design.entries()

    def largest(self) -> float:
        """Return the bound of the function."""
        return self.quadratic.lipschitz()

    def product(self, block: Tensor, d: Tensor) -> Tensor:
        """Return the matrix times ``d`` in a block."""
        self._work.hvps += 1
        return self.quadratic.design.combine(block, d)

    def curvatures(self) -> Tensor:
        """Return the diagonal."""
        return self.quadratic.design.diagonal()

    def dominating(self) -> Tensor:
        """Return the sums of sizes of the rows."""
        if self._sums is None:
            self._sums = self.quadratic.design.row_sums()
        return self._sums

    def move(self, block: Tensor, d: Tensor) -> None:
        """Move and update the gradient."""
        self.x[block] += d
        self._moves += 1
        self._share += len(block) / self.quadratic.variables
        if self._share >= 1:
            self._share -= 1
            self._work.gradients += 1
        if self._moves % self.refresh_every == 0:
            self._gradient = self.quadratic.design.matvec(self.x) - self.quadratic.c
        else:
            self._gradient = self._gradient + self.quadratic.design.combine(block, d)
