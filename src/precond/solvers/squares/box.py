"""Sums of squares within bounds: points are clipped, and variables that bounds hold stand still."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from precond.core import BadInputError, Point
from precond.solvers.squares.residuals import SquaresObjective


@dataclasses.dataclass(frozen=True)
class Box:
    """Bounds on a vector.

    Attributes:
        lower: Lower bounds, ``[n]``; ``-inf`` where there is none.
        upper: Upper bounds, ``[n]``.
    """

    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, bounds: Any, start: Tensor) -> Box | None:
        """Read bounds.

        Args:
            bounds: A ``scipy.optimize.Bounds``, or a pair (lower, upper) of numbers or vectors; ``None`` for none.
            start: The starting point, ``[1, n]``, which must be within.

        Returns:
            The box; ``None`` where nothing is bounded.

        Raises:
            BadInputError: The bounds cannot be read, they leave nothing, or the start is outside.
        """
        if bounds is None:
            return None
        pair = (bounds.lb, bounds.ub) if isinstance(bounds, scipy.optimize.Bounds) else bounds
        try:
            sides = [np.broadcast_to(np.asarray(side, dtype=float), (start.shape[1],)) for side in pair]
        except (TypeError, ValueError) as error:
            raise BadInputError(
                "bounds are a pair (lower, upper) of numbers or vectors like x0, not a pair for each variable"
            ) from error
        if len(sides) != 2:
            raise BadInputError(f"bounds are a pair (lower, upper), not {len(sides)} of them")
        lower, upper = (torch.from_numpy(side.copy()).to(start) for side in sides)
        if not bool((lower <= upper).all()):
            raise BadInputError("each lower bound must be a number, at most its upper one: -inf and inf stand for none")
        if not bool(((lower <= start) & (start <= upper)).all()):
            raise BadInputError("x0 is outside of the bounds: start within, as from x0.clip(lower, upper)")
        return cls(lower, upper) if bool((torch.isfinite(lower) | torch.isfinite(upper)).any()) else None

    def clip(self, x: Tensor) -> Tensor:
        """Return the nearest point within, shape of ``x``."""
        return torch.minimum(torch.maximum(x, self.lower), self.upper)

    def held(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return which variables descent would take out of the box, or which have no room in it, ``[n]``."""
        outward = ((x <= self.lower) & (gradient > 0)) | ((x >= self.upper) & (gradient < 0))
        return outward | (self.lower == self.upper)


class BoxedSquares(SquaresObjective):
    """``||r(x)||^2 / 2`` within bounds.

    Points are clipped to the box before anything is evaluated. Columns of the Jacobian, and entries of the gradient,
    are zero where a bound holds a variable, so that a method without bounds moves within the face that the point is
    on, and leaves it where the gradient points inward: gradient projection, as in D. P. Bertsekas, *Projected Newton
    methods for optimization problems with simple constraints*, 1982, with a Gauss-Newton matrix on the face.

    Args:
        box: The bounds.
        *args: As for `SquaresObjective`.
        **more: Likewise.
    """

    def __init__(self, box: Box, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._box = box
        self._clipped: tuple[Tensor, Tensor] | None = None

    def within(self, x: Tensor) -> Tensor:
        """Return the nearest point in the box; ``x`` itself if it is one."""
        if self._clipped is None or self._clipped[0] is not x:
            nearest = self._box.clip(x)
            self._clipped = (x, x if torch.equal(nearest, x) else nearest)
        return self._clipped[1]

    def point(self, x: Tensor) -> Point:
        """Return value and gradient at the nearest point of the box."""
        return super().point(self.within(x))

    def _value(self, x: Tensor) -> Tensor:
        return super()._value(self.within(x))

    def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = super()._value_and_gradient(x)
        assert self._at is not None
        at, r, jacobian = self._at
        held = self._box.held(x[0], gradient[0])
        self._at, self.held = (at, r, torch.where(held, 0.0, jacobian)), held
        return loss, torch.where(held, 0.0, gradient)
