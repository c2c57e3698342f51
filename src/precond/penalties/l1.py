"""The sum of absolute values, and the elastic net."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import Scalars
from precond.penalties.separable import Sparsifier, Weights, check_above, check_weights, expand, soft


@final
@dataclasses.dataclass(frozen=True, eq=False)
class L1(Sparsifier):
    """``sum_i lam_i |x_i|`` (Tibshirani, Regression shrinkage and selection via the lasso, 1996).

    Attributes:
        lam: The weight, or one for each variable.
    """

    lam: Weights = 1.0

    def __post_init__(self) -> None:
        """Check the weights."""
        check_weights(self.lam, "L1")

    def value(self, x: Tensor) -> Tensor:
        """Return the weighted sum."""
        return (self.weight(x) * x.abs()).sum()

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Shrink by ``step lam``."""
        return soft(x, step * self.weight(x))

    def slope(self, size: Tensor) -> Tensor:
        """Return the weights."""
        return self.weight(size).expand_as(size)

    def scalars(self, n: int) -> Scalars:
        """Return kind 1."""
        free = Scalars.free(n)
        weight = expand(self.weight(free.weight), n)
        return dataclasses.replace(free, kind=torch.ones_like(free.kind), weight=weight)


@final
@dataclasses.dataclass(frozen=True, eq=False)
class ElasticNet(Sparsifier):
    """``sum_i lam_i |x_i| + ridge/2 ||x||^2`` (Zou and Hastie, 2005).

    Attributes:
        lam: The weight of the absolute values, or one for each variable.
        ridge: The weight of the squares.
    """

    lam: Weights = 1.0
    ridge: float = 1.0

    def __post_init__(self) -> None:
        """Check the weights."""
        check_weights(self.lam, "ElasticNet")
        if self.ridge != 0:
            check_above(self.ridge, 0, "ElasticNet: ridge")

    def value(self, x: Tensor) -> Tensor:
        """Return the sum of both."""
        return (self.weight(x) * x.abs()).sum() + self.ridge / 2 * x.dot(x)

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Shrink by ``step lam``, then divide."""
        return soft(x, step * self.weight(x)) / (1 + step * self.ridge)

    def slope(self, size: Tensor) -> Tensor:
        """Return ``lam + ridge |t|``."""
        return self.weight(size) + self.ridge * size

    def scalars(self, n: int) -> Scalars:
        """Return kind 1 with a ridge."""
        free = Scalars.free(n)
        ridge = torch.full_like(free.ridge, self.ridge)
        return dataclasses.replace(
            free, kind=torch.ones_like(free.kind), weight=expand(self.weight(free.weight), n), ridge=ridge
        )  # fmt: skip
