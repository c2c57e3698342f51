"""Bounds on variables, alone or on top of another penalty."""

from __future__ import annotations

import dataclasses
from typing import final

import numpy as np
import torch
from torch import Tensor

from precond.core import BadInputError, IncompatibleError, Penalty, Scalars
from precond.penalties.separable import Separable, Weights, length
from precond.penalties.zero import Zero


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Within(Separable):
    """A separable penalty on the box ``lower <= x <= upper``, infinite outside.

    Attributes:
        penalty: The penalty in the box.
        lower: Lower bounds: a number, or one for each variable; ``-inf`` where there is none.
        upper: Upper bounds.
    """

    penalty: Penalty = Zero()
    lower: Weights = 0.0
    upper: Weights = float("inf")

    def __post_init__(self) -> None:
        """Check the bounds, and that the penalty is separable."""
        if not isinstance(self.penalty, Separable):
            raise IncompatibleError(f"bounds need a separable penalty, and {type(self.penalty).__name__} is none")
        lower, upper = self._bounds(torch.zeros((), dtype=torch.float64))
        if lower.ndim > 1 or upper.ndim > 1 or bool((lower.isnan() | upper.isnan()).any()):
            raise BadInputError("bounds must be numbers, or a vector with one for each variable")
        if lower.ndim and upper.ndim and len(lower) != len(upper):
            raise BadInputError(f"there are {len(lower)} lower bounds and {len(upper)} upper ones: give one of each")
        if bool((lower > upper).any()) or bool((lower == torch.inf).any()) or bool((upper == -torch.inf).any()):
            raise BadInputError("the box is empty: every lower bound must be at most the upper one")

    @property
    def concavity(self) -> float:
        """Return that of the penalty."""
        return self.penalty.concavity

    def check(self, n: int) -> None:
        """Check the numbers of bounds and weights."""
        for name, bound in (("lower", self.lower), ("upper", self.upper)):
            given = length(bound)
            if given not in (None, n):
                raise BadInputError(f"there are {given} {name} bounds for {n} variables: give {n}, or one")
        self.penalty.check(n)

    def _bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = (torch.as_tensor(bound, dtype=x.dtype, device=x.device) for bound in (self.lower, self.upper))
        return lower, upper

    def value(self, x: Tensor) -> Tensor:
        """Return the penalty inside, infinity outside."""
        lower, upper = self._bounds(x)
        if bool(((x < lower) | (x > upper)).any()):
            return x.new_full((), torch.inf)
        return self.penalty.value(x)

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Return the penalty's proximal point moved into the box.

        That is the minimizer in one dimension wherever the function minimized is convex, which holds for
        ``step * concavity < 1``.
        """
        lower, upper = self._bounds(x)
        return torch.minimum(torch.maximum(self.penalty.prox(x, step), lower), upper)

    def subgradients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the penalty's, without end towards a bound that is met."""
        assert isinstance(self.penalty, Separable)
        lower, upper = self._bounds(x)
        least, largest = self.penalty.subgradients(x)
        return torch.where(x <= lower, -torch.inf, least), torch.where(x >= upper, torch.inf, largest)

    def at(self, index: Tensor) -> Penalty:
        """Return bounds and penalty of some variables."""
        lower, upper = (
            b if np.ndim(b) == 0 else torch.as_tensor(b, dtype=torch.float64)[index.cpu()]
            for b in (self.lower, self.upper)
        )  # fmt: skip
        return Within(self.penalty.at(index), lower, upper)

    def scalars(self, n: int) -> Scalars | None:
        """Return the penalty's with bounds."""
        inner = self.penalty.scalars(n)
        if inner is None:
            return None
        lower, upper = (bound.expand(n).contiguous() for bound in self._bounds(inner.lower))
        return dataclasses.replace(inner, lower=lower, upper=upper)


def Box(lower: Weights, upper: Weights) -> Within:
    """Return the indicator of ``lower <= x <= upper``.

    Args:
        lower: Lower bounds: a number, or one for each variable.
        upper: Upper bounds.

    Returns:
        The penalty.
    """
    return Within(Zero(), lower, upper)


def NonNegative() -> Within:
    """Return the indicator of ``x >= 0``."""
    return Within(Zero(), 0.0)
