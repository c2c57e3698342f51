"""Linear models: a sum of functions of one product with a row of a matrix each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from precond.core import BadInputError, Coordinates, Operator, Work
from precond.losses.linear_coordinates import LinearCoordinates
from precond.losses.linear_hessian import LinearHessian
from precond.losses.single_products import SingleProducts
from precond.losses.small import SmallLogistic, SmallRegression


class LinearModel(SingleProducts):
    """``f(x) = scale sum_i phi(a_i' x, b_i) + ridge/2 ||x||^2``; a subclass says what ``phi`` is.

    Args:
        A: Rows ``a_i``: a matrix ``[m, n]``, dense (NumPy, torch) or sparse (SciPy, torch).
        b: What is to be explained, ``[m]``.
        scale: Weight of the sum; ``None`` means ``1/m``.
        ridge: Weight of the squares of the variables.
    """

    def hessian_at(self, z: Tensor, work: Work) -> Operator:
        """Return ``scale A' phi'' A + ridge I``."""
        return LinearHessian(self, self.curvature(z), work)

    def coordinates(self, x: Tensor, work: Work) -> Coordinates:
        """Return the model with its products ``A x`` kept up to date."""
        return LinearCoordinates(self, x, work)


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
