"""The matrix of a linear model: products with it, and with some of its columns."""

from __future__ import annotations

import abc
from typing import Any

import scipy.sparse
import torch
from torch import Tensor

from precond.losses.features import Features


class Design(abc.ABC):
    """A matrix ``A`` of shape ``[m, n]`` whose columns can be had one by one.

    Attributes:
        shape: ``(m, n)``.
        dtype: float32 or float64.
        device: Where it lies.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    @property
    @abc.abstractmethod
    def features(self) -> Features:
        """The matrix as regressions keep it."""

    def dense(self) -> Tensor | None:
        """Return the matrix if it is dense: do not write to it."""
        return None

    @abc.abstractmethod
    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x`` for each row of ``x`` ``[..., n]``."""

    @abc.abstractmethod
    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A' y`` for each row of ``y`` ``[..., m]``."""

    @abc.abstractmethod
    def partial(self, block: Tensor, y: Tensor) -> Tensor:
        """Return ``A_b' y``, ``[k]``, for some columns."""

    @abc.abstractmethod
    def combine(self, block: Tensor, d: Tensor) -> Tensor:
        """Return ``A_b d``, ``[m]``, for some columns."""

    @abc.abstractmethod
    def gram(self, block: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return ``A_b' diag(weights) A_b``, ``[k, k]``."""

    @abc.abstractmethod
    def squares(self) -> Tensor:
        """Return the squared norms of the columns, ``[n]``."""

    @abc.abstractmethod
    def overlaps(self) -> Tensor:
        """Return ``|A|' |A| 1``, ``[n]``: bounds on the sums of ``|A' A|`` over rows."""

    @abc.abstractmethod
    def diagonal(self) -> Tensor:
        """Return the diagonal of a square matrix, ``[n]``."""

    @abc.abstractmethod
    def block(self, index: Tensor) -> Tensor:
        """Return the entries of some rows and the same columns of a square matrix, dense, ``[k, k]``."""

    @abc.abstractmethod
    def row_sums(self) -> Tensor:
        """Return the sum of sizes of each row, ``[m]``."""

    @abc.abstractmethod
    def round(self, order: Any, common: tuple[Any, ...], columns: list[Any]) -> float:
        """Run a compiled round of coordinate descent; see `precond.math.descent_kernels`."""

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the matrix in CSR form if it is sparse."""
        return None

    def largest_eigenvalue(self) -> float:
        """Return the largest eigenvalue of ``A' A``, by the Gram matrix or by Lanczos with 1 % on top."""
        m, n = self.shape
        if min(m, n) == 0:
            return 0.0
        if n <= 256:
            return float(torch.linalg.eigvalsh(self.gram(torch.arange(n, device=self.device)).double())[-1])
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(n, generator=generator, dtype=torch.float64).to(self.device, self.dtype)
        basis, alphas, betas = [v / v.norm()], [], []
        for _ in range(min(n, 40)):
            w = self.rmatvec(self.matvec(basis[-1]))
            alphas.append(w.dot(basis[-1]))
            stacked = torch.stack(basis)
            for _ in range(2):
                w = w - (stacked @ w) @ stacked
            beta = w.norm()
            if not beta > 1e-12 * alphas[0].abs():
                break
            betas.append(beta)
            basis.append(w / beta)
        size = len(alphas)
        t = torch.diag(torch.stack(alphas)).double()
        if size > 1:
            off = torch.stack(betas[: size - 1]).double()
            t += torch.diag(off, 1) + torch.diag(off, -1)
        return 1.01 * float(torch.linalg.eigvalsh(t)[-1])


class Times(torch.autograd.Function):
    """``x -> A x`` for a constant design; its derivative is a product of the same kind, so that any order is there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, design: Design, transposed: bool) -> Tensor:
        """Return ``A x``, or ``A' x``."""
        ctx.design, ctx.transposed = design, transposed
        return (design.rmatvec if transposed else design.matvec)(x.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the product with the transpose."""
        return Times.apply(gradients[0], ctx.design, not ctx.transposed), None, None
