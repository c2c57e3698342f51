"""Penalties: functions that need not be smooth, simple enough that their proximal map is known."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from precond.core.errors import IncompatibleError


@dataclasses.dataclass(frozen=True, eq=False)
class Scalars:
    """A penalty that is a sum of functions of one variable each, as numbers that compiled loops read.

    The function of a variable is ``p(t) + ridge / 2 t^2`` on ``[lower, upper]``, where ``p`` is zero (``kind`` 0),
    ``weight |t|`` (1), SCAD (2) or MCP (3) with the shape parameter ``shape``. All of shape ``[n]``.

    Attributes:
        kind: Which function.
        weight: The weight ``lambda``.
        shape: ``a`` of SCAD, ``gamma`` of MCP.
        ridge: Weight of the square.
        lower: Lower bounds.
        upper: Upper bounds.
    """

    kind: Tensor
    weight: Tensor
    shape: Tensor
    ridge: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def free(cls, n: int) -> Scalars:
        """Return the zero penalty of ``n`` variables in float64."""
        zero, infinite = torch.zeros(n, dtype=torch.float64), torch.full((n,), torch.inf, dtype=torch.float64)
        return cls(torch.zeros(n, dtype=torch.int64), zero, torch.ones_like(zero), zero, -infinite, infinite)

    def columns(self) -> tuple[Tensor, ...]:
        """Return the columns in the order of the attributes."""
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))


class Penalty(abc.ABC):
    """A function ``g`` of a vector ``[n]``, as a frozen dataclass of weights; it is added to a smooth function.

    What is minimized with it is certified by the shortest vector of ``grad f(x) + dg(x)``.
    """

    separable: ClassVar[bool] = True
    """A sum of functions of one variable each."""

    @property
    def concavity(self) -> float:
        """The least ``c`` for which ``g + c/2 ||x||^2`` is convex: zero for convex penalties."""
        return 0.0

    @abc.abstractmethod
    def check(self, n: int) -> None:
        """Raise `BadInputError` if the penalty is not one of ``n`` variables."""

    @abc.abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """Return ``g(x)``, 0-d; infinite outside of the domain."""

    @abc.abstractmethod
    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Return a global minimizer of ``g(z) + ||z - x||^2 / (2 step)``, ``[n]``; for each variable if separable."""

    @abc.abstractmethod
    def slack(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return the shortest vector of ``gradient + dg(x)``, ``[n]``, with the (limiting) subdifferential ``dg``."""

    @abc.abstractmethod
    def support(self, x: Tensor) -> Tensor:
        """Return the generalized support, Boolean ``[n]``: the variables along which ``g`` is smooth at ``x``."""

    def units(self, n: int) -> Tensor:
        """Return the unit of each variable, integers ``[n]`` from 0 on: groups, or the variables themselves."""
        return torch.arange(n)

    @abc.abstractmethod
    def at(self, index: Tensor) -> Penalty:
        """Return the penalty of some variables alone, which must be whole units; ``index`` holds their places."""

    def scalars(self, n: int) -> Scalars | None:
        """Return the penalty as numbers for compiled loops, or ``None`` when it is not of that form."""
        return None

    def split(self) -> tuple[Penalty, Concave]:
        """Split the penalty.

        Returns:
            A convex penalty and a smooth, concave function whose sum this is.

        Raises:
            IncompatibleError: No split is known.
        """
        if self.concavity:
            raise IncompatibleError(f"{type(self).__name__} has no split: use method='prox-newton' or 'fista'")
        return self, NoConcave()


class Concave(abc.ABC):
    """A smooth, concave function of a vector ``[n]``: what is left of a penalty without its convex part."""

    @abc.abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """Return the value, 0-d."""

    @abc.abstractmethod
    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient, ``[n]``."""


@dataclasses.dataclass(frozen=True)
class NoConcave(Concave):
    """Zero."""

    def value(self, x: Tensor) -> Tensor:
        """Return zero."""
        return x.new_zeros(())

    def gradient(self, x: Tensor) -> Tensor:
        """Return zero."""
        return torch.zeros_like(x)
