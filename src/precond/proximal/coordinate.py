"""Coordinate descent, one variable at a time, in compiled rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Composite, CompositeIteration, IncompatibleError, Spot, Standing


@final
@dataclasses.dataclass(frozen=True)
class CoordinateDescent(CompositeIteration):
    """``x_j <- prox(x_j - g_j / L_j)`` for one variable after another, in rounds over all.

    Attributes:
        shuffled: Each round in a new random order, otherwise in the order of the variables.
        seed: What the orders depend on.
    """

    separable: ClassVar[bool] = True
    shuffled: bool = False
    seed: int = 0

    def iterate(self, problem: Composite, x0: Tensor, tolerance: float) -> Iterator[Standing]:
        """Yield a point after each round; its own measure is the norm of the moves, each times its curvature."""
        coordinates = problem.smooth.coordinates(x0)
        scalars = problem.penalty.scalars(x0.numel())
        if coordinates is None or not coordinates.rounds or scalars is None:
            raise IncompatibleError(
                "compiled rounds need a linear model of precond.losses (LeastSquares, Logistic) and a penalty of "
                "precond.penalties that is separable: use method='block-descent' or 'fista'"
            )
        generator = torch.Generator().manual_seed(self.seed)
        first = problem.spot(x0)
        yield Standing.at(first)
        n = x0.numel()
        while n:
            order = torch.randperm(n, generator=generator) if self.shuffled else torch.arange(n)
            own = coordinates.round(order, scalars)
            x = coordinates.x.clone()

            def spot(x: Tensor = x) -> Spot:
                return problem.spot(x)

            yield Standing(x, own, spot)
