"""What penalties that are sums of functions of one variable share."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from precond.core import BadInputError, Penalty

Weights = float | Sequence[float] | np.ndarray[Any, Any] | Tensor
"""One weight, or one for each variable (zero where a variable is not penalized, such as an intercept)."""
P = TypeVar("P", bound=Penalty)


class Separable(Penalty):
    """A sum of functions of one variable each, given by the ends of its subdifferential.

    The slack is the shortest vector of an interval, the generalized support is where the interval is a point.
    """

    @abc.abstractmethod
    def subgradients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least and the largest subgradient along each variable, ``[n]`` each, perhaps infinite."""

    def slack(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return the shortest vector of ``gradient + [least, largest]``."""
        least, largest = self.subgradients(x)
        return (gradient + least).clamp(min=0) + (gradient + largest).clamp(max=0)

    def support(self, x: Tensor) -> Tensor:
        """Return where there is one subgradient."""
        least, largest = self.subgradients(x)
        return least == largest


class Sparsifier(Separable):
    """A penalty of ``|x_i|`` with weights and a kink at zero; a frozen dataclass with a field ``lam``."""

    lam: Weights
    sequences: ClassVar[tuple[str, ...]] = ("lam",)

    def weight(self, x: Tensor) -> Tensor:
        """Return the weights like ``x``: 0-d, or ``[n]``."""
        return torch.as_tensor(self.lam, dtype=x.dtype, device=x.device)

    def check(self, n: int) -> None:
        """Check the number of weights."""
        given = length(self.lam)
        if given not in (None, n):
            raise BadInputError(
                f"{type(self).__name__} has {given} weights and there are {n} variables: give {n}, or one"
            )

    def at(self, index: Tensor) -> Penalty:
        """Return the penalty of some variables."""
        if length(self.lam) is None:
            return self
        return dataclasses.replace(self, lam=torch.as_tensor(self.lam, dtype=torch.float64)[index.cpu()])  # type: ignore[type-var]  # all are dataclasses

    @abc.abstractmethod
    def slope(self, size: Tensor) -> Tensor:
        """Return the derivative with respect to ``|t|`` at sizes that are not negative; at zero, from the right."""

    def subgradients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slope with the sign of ``x``, and both signs at zero."""
        slope = self.slope(x.abs())
        return torch.where(x > 0, slope, -slope), torch.where(x < 0, -slope, slope)


def check_weights(lam: Weights, name: str) -> None:
    """Refuse weights that are negative or not finite.

    Args:
        lam: The weights.
        name: Whose they are.

    Raises:
        BadInputError: They are no numbers, negative, or not finite.
    """
    try:
        weights = torch.as_tensor(lam, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInputError(f"{name}: lam must be a number or one for each variable, not {lam!r}") from error
    if weights.ndim > 1:
        raise BadInputError(f"{name}: lam has shape {tuple(weights.shape)}: give a number or a vector")
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        raise BadInputError(f"{name}: lam must be finite and not negative, not {lam!r}")


def length(numbers: Weights) -> int | None:
    """Return how many numbers there are; ``None`` for one that stands for all."""
    return int(np.shape(numbers)[0]) if np.ndim(numbers) else None


def soft(x: Tensor, threshold: Tensor | float) -> Tensor:
    """Return ``sign(x) max(|x| - threshold, 0)``."""
    return x.sign() * (x.abs() - threshold).clamp(min=0)


def expand(weight: Tensor, n: int) -> Tensor:
    """Return weights as float64 on the CPU, ``[n]``."""
    return weight.detach().cpu().double().expand(n).contiguous()


def check_above(value: float, least: float, what: str) -> None:
    """Refuse a shape parameter that is not above ``least``."""
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value > least):
        raise BadInputError(f"{what} must be a finite number above {least:g}, not {value!r}")
