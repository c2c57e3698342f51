"""Regressions whose terms see one product with their row each."""

from __future__ import annotations

import abc
from typing import Any, Literal

from torch import Tensor

from precond.losses.design import Times
from precond.losses.regression import Regression


class SingleProducts(Regression):
    """``f(x) = scale sum_i phi(a_i' x, b_i) + ridge/2 ||x||^2``; a subclass says what ``phi`` is.

    Args:
        A: Rows ``a_i``: a matrix ``[m, n]``, dense (NumPy, torch) or sparse (SciPy, torch).
        b: What is to be explained, ``[m]``.
        scale: Weight of the sum; ``None`` means ``1/m``.
        ridge: Weight of the squares of the variables.
    """

    curvature_bound: float
    """The least upper bound of ``phi''``."""
    kernel: Literal["squares", "logistic"] | None = None
    """Which ``phi`` compiled rounds of coordinate descent take for it, if there is one; each is convex."""

    def __init__(self, A: Any, b: Any, *, scale: float | None = None, ridge: float = 0.0) -> None:
        super().__init__(A, scale, ridge)
        self.variables = self.design.shape[1]
        self.b = self._targets(b)

    @abc.abstractmethod
    def phi(self, z: Tensor) -> Tensor:
        """Return ``phi(z_i, b_i)``, ``[m]``, by torch operations."""

    @abc.abstractmethod
    def slope(self, z: Tensor) -> Tensor:
        """Return ``phi'(z_i, b_i)``, ``[m]``."""

    @abc.abstractmethod
    def curvature(self, z: Tensor) -> Tensor | None:
        """Return ``phi''(z_i, b_i)``, ``[m]``; ``None`` where it is one."""

    def phi_and_slope(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return both, ``[m]`` each; a subclass may have them for less together."""
        return self.phi(z), self.slope(z)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the value at ``x`` ``[n]``."""
        x = x.to(self.dtype)
        z = Times.apply(x, self.design, False) if x.requires_grad else self.design.matvec(x)
        return self.scale * self.phi(z).sum() + self.ridge / 2 * x.dot(x)

    def products(self, x: Tensor) -> Tensor:
        """Return ``A x``, ``[m]``."""
        return self.design.matvec(x)

    def at(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and gradient at ``x``, whose products are ``z``."""
        values, slopes = self.phi_and_slope(z)
        loss = values.sum().mul_(self.scale).add_(x.dot(x), alpha=self.ridge / 2)
        return loss, self.design.rmatvec(slopes).mul_(self.scale).add_(x, alpha=self.ridge)

    def floor(self) -> float | None:
        """Return the ridge where ``phi`` is known to be convex."""
        return self.ridge if self.kernel is not None else None

    def lipschitz(self) -> float:
        """Return ``scale max(phi'') ||A||^2 + ridge``."""
        return self.scale * self.curvature_bound * self.design.largest_eigenvalue() + self.ridge
