"""Jacobians of residuals by differences: of the order that angles with the residual ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from precond.solvers.squares.jacobians import Jacobian, Residual, largest_cosine, vanishes

Stencil: TypeAlias = tuple[tuple[int, float], ...]
CENTRAL: Stencil = ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0))
ONE_SIDED: Stencil = ((0, -25.0), (1, 48.0), (2, -36.0), (3, 16.0), (4, -3.0))
"""Multiples of the increment and weights, over 12, of differences of fourth order."""

FORWARD, FOURTH = 1e-6, 1e-10
"""What columns by forward differences, and by those of fourth order, may be wrong by, as a share of them."""
ENOUGH = 10.0
"""Cosines this many times as large as that are told by a Jacobian."""


@dataclasses.dataclass(frozen=True)
class Base:
    """A point with a Jacobian of fourth order, from which those of points beside it differ by little.

    Attributes:
        x: The point, ``[n]``.
        jacobian: ``[m, n]``.
        increments: Of each variable, ``[n]``; zero where there was no room.
        forward: Forward differences with these increments, ``[m, n]``.
    """

    x: Tensor
    jacobian: Tensor
    increments: Tensor
    forward: Tensor


class DifferenceJacobian(Jacobian):
    """By differences: forward while far from a solution, then of fourth order.

    Far means that some column of ``J`` still makes an angle with the residual whose cosine is ten times what columns
    may be wrong by, which is ``FORWARD`` for forward differences. These cost ``n`` residuals with increments
    ``sqrt(eps) |x_i|``, those of fourth order ``4 n`` with increments ``h_i = eps^(2/9) |x_i|``, where truncation and
    rounding leave about ten digits in well-scaled functions. Increments that rounding hides are enlarged, up to those
    of ``|x_i| = 1``. Residuals that vanish to rounding need no more than forward differences.

    Near a point with fourth order (within ``h_i``) its Jacobian is carried along: what forward differences with ``h_i``
    have changed by is added to it. That costs ``n`` residuals; the truncation of these differences hardly differs
    between both points, by about ``h_i / |x_i|`` of the change, which tells what the columns may be wrong by.

    Args:
        exact: Always of fourth order.
        bounds: Least and largest variables, ``[n]`` each, that differences keep to: next to a bound they are one-sided,
            and zero where there is no room.
    """

    def __init__(self, *, exact: bool = False, bounds: tuple[Tensor, Tensor] | None = None) -> None:
        self._exact, self._bounds = exact, bounds
        self.finest = exact
        self._residual: Residual | None = None
        self._base: Base | None = None
        self._near = False
        self._typical: dict[int, float] = {}

    def insist(self) -> None:
        """Take differences of fourth order everywhere from here on."""
        self._exact = self.finest = True

    def at(self, residual: Residual, x: Tensor, r: Tensor) -> Tensor:
        """Return the Jacobian, as exact as the angles with the residual ask for."""
        if residual != self._residual:
            self._residual, self._base, self._near, self._typical = residual, None, False, {}
        if not self._exact:
            found, wrong = self._carried(residual, x, r), FORWARD
            if found is not None:
                jacobian, wrong = found
            elif not self._near:
                jacobian = self._forward(residual, x, r)
            if found is not None or not self._near:
                self.finest = wrong <= FOURTH
                if self.finest or vanishes(r, jacobian, x) or not largest_cosine(jacobian, r) <= ENOUGH * wrong:
                    return jacobian
        jacobian = self._fourth(residual, x, r)
        self.finest, self._near = True, largest_cosine(jacobian, r) <= ENOUGH * FORWARD
        return jacobian

    def _carried(self, residual: Residual, x: Tensor, r: Tensor) -> tuple[Tensor, float] | None:
        """Return the Jacobian near a point with fourth order, and what its columns may be wrong by, as a share of them.

        ``None`` elsewhere.
        """
        base = self._base
        if base is None or base.jacobian.shape != (r.numel(), x.numel()):
            return None
        if not bool(((x - base.x).abs() <= base.increments.abs()).all()):
            return None
        columns = []
        for i, step in enumerate(base.increments):
            h = float((x[i] + step) - x[i])  # exactly representable
            if self._bounds is not None and not -self._room(x, i)[1] <= h <= self._room(x, i)[0]:
                return None
            moved = x.clone()
            moved[i] += h
            columns.append((residual(moved) - r) / h)
        change = torch.stack(columns, dim=1) - base.forward
        jacobian = base.jacobian + change
        share = torch.linalg.vector_norm(change, dim=0) / torch.linalg.vector_norm(jacobian, dim=0)
        wrong = torch.finfo(x.dtype).eps ** (2 / 9) * float(torch.nan_to_num(share, nan=0.0).max())
        return jacobian, wrong

    def _columns(
        self, x: Tensor, r: Tensor, power: float, wrong: float, column: Callable[[int, float], Tensor]
    ) -> Tensor:
        """Return the columns ``column(i, h)`` with increments ``h = eps^power |x_i|``, those of one where ``x_i = 0``.

        Where ``|h J_i|`` is below ``eps / wrong |r|`` the rounding of the residuals makes them wrong by more, as next
        to zero; the increment grows until it shows, or to that of one, and is remembered for points still nearer.
        """
        eps, size, columns = torch.finfo(x.dtype).eps, float(r.norm()), []
        for i, value in enumerate(x):
            typical, growth = float(value.abs()) or 1.0, 100.0
            typical = max(typical, self._typical.get(i, 0.0))
            while True:
                h = float((value + eps**power * typical) - value)  # exactly representable
                found = column(i, h) if h else torch.zeros_like(r)
                if typical >= 1 or not float(found.norm()) * abs(h) * wrong <= eps * size:
                    break
                typical, growth = min(typical * growth, 1.0), growth * growth
                self._typical[i] = typical
            columns.append(found)
        return torch.stack(columns, dim=1) if columns else r.new_zeros(r.numel(), 0)

    def _room(self, x: Tensor, i: int) -> tuple[float, float]:
        """Return how far a variable may move up, and how far down."""
        assert self._bounds is not None
        return float(self._bounds[1][i] - x[i]), float(x[i] - self._bounds[0][i])

    def _forward(self, residual: Residual, x: Tensor, r: Tensor) -> Tensor:
        def column(i: int, h: float) -> Tensor:
            if self._bounds is not None:
                ahead, behind = self._room(x, i)
                h = h if h <= ahead else -min(h, behind) if behind >= ahead else ahead
                if not h:
                    return torch.zeros_like(r)
            moved = x.clone()
            moved[i] += h
            return (residual(moved) - r) / h

        return self._columns(x, r, 1 / 2, FORWARD, column)

    def _fourth(self, residual: Residual, x: Tensor, r: Tensor) -> Tensor:
        increments, forward = torch.zeros_like(x), torch.zeros(r.numel(), x.numel(), dtype=r.dtype, device=r.device)

        def column(i: int, h: float) -> Tensor:
            total, stencil = torch.zeros_like(r), CENTRAL
            if self._bounds is not None:
                ahead, behind = self._room(x, i)
                if not max(ahead, behind):
                    return total
                if min(ahead, behind) < 2 * h:
                    side = 1 if ahead >= behind else -1
                    h, stencil = side * min(h, max(ahead, behind) / 4), ONE_SIDED
            for multiple, weight in stencil:
                moved = x.clone()
                moved[i] += multiple * h
                value = residual(moved)
                total = total + weight * value
                if multiple == 1:
                    increments[i], forward[:, i] = h, (value - r) / h
            return total / (12 * h)

        found = self._columns(x, r, 2 / 9, FOURTH, column)
        self._base = Base(x.clone(), found, increments, forward)
        return found
