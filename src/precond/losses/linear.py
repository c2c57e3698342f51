"""Linear models: a sum of functions of one product with a row of a matrix each."""

from __future__ import annotations

import abc
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from precond.core import BadInputError, Coordinates, Operator, Work
from precond.losses.design import Times
from precond.losses.linear_coordinates import LinearCoordinates
from precond.losses.linear_hessian import LinearHessian
from precond.losses.regression import Regression
from precond.losses.small import SmallLogistic, SmallRegression


class LinearModel(Regression):
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

    def hessian_at(self, z: Tensor, work: Work) -> Operator:
        """Return ``scale A' phi'' A + ridge I``."""
        return LinearHessian(self, self.curvature(z), work)

    def at(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and gradient at ``x``, whose products are ``z``."""
        values, slopes = self.phi_and_slope(z)
        loss = values.sum().mul_(self.scale).add_(x.dot(x), alpha=self.ridge / 2)
        return loss, self.design.rmatvec(slopes).mul_(self.scale).add_(x, alpha=self.ridge)

    def coordinates(self, x: Tensor, work: Work) -> Coordinates:
        """Return the model with its products ``A x`` kept up to date."""
        return LinearCoordinates(self, x, work)

    def floor(self) -> float | None:
        """Return the ridge where ``phi`` is known to be convex."""
        return self.ridge if self.kernel is not None else None

    def lipschitz(self) -> float:
        """Return ``scale max(phi'') ||A||^2 + ridge``."""
        return self.scale * self.curvature_bound * self.design.largest_eigenvalue() + self.ridge


class LeastSquares(LinearModel):
    """``scale/2 ||A x - b||^2 + ridge/2 ||x||^2``; see `LinearModel` for the arguments."""

    curvature_bound = 1.0
    kernel = "squares"

    def phi(self, z: Tensor) -> Tensor:
        """Return half the squares."""
        return (z - self.b).square() / 2

    def slope(self, z: Tensor) -> Tensor:
        """Return the residuals."""
        return z - self.b

    def curvature(self, z: Tensor) -> Tensor | None:
        """Return ``None``: it is one."""
        return None


class Logistic(LinearModel):
    """``scale sum_i log(1 + exp(-b_i a_i' x)) + ridge/2 ||x||^2`` with labels ``b_i`` of two values.

    The smaller label counts as -1, the larger as +1; see `LinearModel` for the arguments.
    """

    curvature_bound = 0.25
    kernel = "logistic"

    def __init__(self, A: Any, b: Any, *, scale: float | None = None, ridge: float = 0.0) -> None:
        super().__init__(A, b, scale=scale, ridge=ridge)
        labels = self.b.unique()
        if len(labels) > 2:
            raise BadInputError(f"b has {len(labels)} different labels: a logistic model has two")
        if len(labels) == 2:
            self.b = torch.where(self.b == labels[1], 1.0, -1.0).to(self.dtype)
        elif len(labels) == 1 and float(labels[0]) not in (-1.0, 1.0):
            self.b = torch.where(self.b > 0, 1.0, -1.0).to(self.dtype)

    def phi(self, z: Tensor) -> Tensor:
        """Return the logarithms."""
        return -functional.logsigmoid(self.b * z)

    def slope(self, z: Tensor) -> Tensor:
        """Return ``-b / (1 + exp(b z))``."""
        against = -self.b
        return (against * z).sigmoid_().mul_(against)

    def small(self) -> SmallRegression | None:
        """Return the model in arrays, where its matrix is dense."""
        matrix = self.design.dense()
        return None if matrix is None else SmallLogistic(matrix.numpy(), self.b.numpy(), self.scale, self.ridge)

    def phi_and_slope(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return both from one product of labels and scores."""
        margins = self.b * z
        values = functional.logsigmoid(margins).neg_()
        return values, margins.neg_().sigmoid_().mul_(self.b).neg_()

    def curvature(self, z: Tensor) -> Tensor | None:
        """Return ``s (1 - s)``."""
        return torch.sigmoid(z).mul_(torch.sigmoid(-z))
