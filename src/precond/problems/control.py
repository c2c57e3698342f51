"""Optimal control of elliptic equations on a grid: large programs whose derivatives are sparse."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Control:
    """A problem ``min f(x)`` subject to ``c(x) = 0``, ``lower <= x <= upper``, from plain torch functions.

    Attributes:
        name: What it is.
        fun: The objective.
        constraints: The constraints, ``[n] -> [m]``.
        start: The starting point, ``[n]``.
        bounds: ``(lower, upper)`` for each variable, or ``None``.
    """

    name: str
    fun: Function
    constraints: Function
    start: Tensor
    bounds: list[tuple[float | None, float | None]] | None = None


def elliptic_control(
    *, size: int = 80, weight: float = 1e-4, semilinear: bool = False, largest: float | None = None
) -> Control:
    """Return the control of ``-laplace y + phi(y) = u`` on the unit square towards a given state.

    ``min 1/2 ||y - target||^2 + weight/2 ||u||^2`` with ``y = 0`` on the boundary, ``phi(y) = y^3`` if semilinear, by
    five-point differences: ``2 size^2`` variables and ``size^2`` equations.

    Args:
        size: Interior points in each direction.
        weight: Of the control.
        semilinear: Add ``y^3`` to the equation.
        largest: Bound on ``|u|``.

    Returns:
        The problem in float64, starting from zero.
    """
    count, h = size * size, 1 / (size + 1)
    grid = torch.linspace(h, 1 - h, size, dtype=torch.float64)
    target = torch.sin(math.pi * grid)[:, None] * torch.sin(2 * math.pi * grid)

    def parts(x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:count].view(size, size), x[count:].view(size, size)

    def fun(x: Tensor) -> Tensor:
        y, u = parts(x)
        return h * h * ((y - target.to(x)).square().sum() + weight * u.square().sum()) / 2

    def constraints(x: Tensor) -> Tensor:
        y, u = parts(x)
        wide = torch.nn.functional.pad(y, (1, 1, 1, 1))
        laplace = 4 * y - wide[:-2, 1:-1] - wide[2:, 1:-1] - wide[1:-1, :-2] - wide[1:-1, 2:]
        return (laplace + h * h * ((y**3 if semilinear else 0) - u)).reshape(-1)

    bounds: list[tuple[float | None, float | None]] | None = None
    if largest is not None:
        bounds = [(None, None)] * count + [(-largest, largest)] * count
    kind = "semilinear" if semilinear else "linear"
    return Control(
        f"control of a {kind} elliptic equation, {2 * count} variables", fun, constraints,
        torch.zeros(2 * count, dtype=torch.float64), bounds,
    )  # fmt: skip
