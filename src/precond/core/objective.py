"""The oracle of a smooth objective, which counts every evaluation."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor

from precond.core.coordinates import Coordinates
from precond.core.operator import Operator
from precond.core.work import Work


@dataclasses.dataclass(frozen=True)
class Point:
    """A point with what was evaluated there.

    Attributes:
        x: The point as one flat vector, shape ``[1, n]``.
        loss: The objective, 0-d.
        gradient: Its gradient, shape ``[1, n]``.
    """

    x: Tensor
    loss: Tensor
    gradient: Tensor


class Arrays(Protocol):
    """A small objective as functions of arrays in float64, by which solvers save the calls of torch."""

    def evaluate(self, x: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any], Any]:
        """Return value, gradient ``[n]``, and what `hessian` needs to know of the point ``[n]``."""

    def hessian(self, kept: Any) -> np.ndarray[Any, Any]:
        """Return the Hessian, ``[n, n]``, at a point of which that was kept."""


class Objective(abc.ABC):
    """A smooth function of one flat vector. Subclasses evaluate; this class counts.

    Args:
        work: The account to charge.
    """

    squares: ClassVar[bool] = False
    """Whether it is half a sum of squares, and `hessian` the Gauss-Newton matrix of its residuals."""
    sparse: ClassVar[bool] = False
    """Whether Hessians are sparse matrices that have their entries at hand."""

    def __init__(self, work: Work | None = None) -> None:
        self.work = work if work is not None else Work()

    def value(self, x: Tensor) -> Tensor:
        """Return the objective at ``x`` (shape ``[1, n]``), 0-d, and count one loss."""
        self.work.losses += 1
        return self._value(x)

    def point(self, x: Tensor) -> Point:
        """Return value and gradient at ``x``, and count one gradient."""
        self.work.gradients += 1
        loss, gradient = self._value_and_gradient(x)
        return Point(x, loss, gradient)

    def within(self, x: Tensor) -> Tensor:
        """Return the nearest point of the domain, at which `value` and `point` evaluate; here ``x`` itself."""
        return x

    @property
    def assembles(self) -> bool:
        """Whether Hessians can be had as matrices without products."""
        return False

    @property
    def rows(self) -> int:
        """How many terms there are in the sum that is assembled; 0 where nothing is."""
        return 0

    @property
    def assembly(self) -> int:
        """How many products with a Hessian take about as long as assembling it; 0 where that is not known."""
        return 0

    @abc.abstractmethod
    def hessian(self, x: Tensor) -> Operator:
        """Return the Hessian at ``x`` as an operator whose products are counted as ``hvps``."""

    def arrays(self) -> Arrays | None:
        """Return the function in arrays, whose evaluations the caller counts; ``None`` where it is not that small."""
        return None

    def coordinates(self, x: Tensor) -> Coordinates | None:
        """Return the function as block coordinate descent sees it, at ``x`` ``[n]``; ``None`` without structure."""
        return None

    def floor(self) -> float | None:
        """Return a number that no eigenvalue of a Hessian is below, at any point; ``None`` if none is known."""
        return None

    def lipschitz(self) -> float | None:
        """Return a bound on the largest eigenvalue of the Hessian anywhere; ``None`` if none is known."""
        return None

    def linearization(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return residuals ``[m]`` and their Jacobian ``[m, n]`` at ``x``, for a sum of squares that forms it."""
        return None

    def acceleration(self, x: Tensor, d: Tensor) -> Tensor | None:
        """Return ``J' r_dd``, shape ``[1, n]``, for a sum of squares; ``None`` when that is not known.

        ``r_dd`` is the second derivative of the residuals at ``x`` along ``d``.
        """
        return None

    @abc.abstractmethod
    def _value(self, x: Tensor) -> Tensor: ...

    @abc.abstractmethod
    def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]: ...


class Delegating(Objective):
    """Another objective, seen in another way: subclasses replace what they see differently.

    Args:
        base: The objective; what it counts is counted.
    """

    def __init__(self, base: Objective) -> None:
        super().__init__(base.work)
        self.base = base

    def value(self, x: Tensor) -> Tensor:
        """Return the value at ``x``."""
        return self.base.value(x)

    def point(self, x: Tensor) -> Point:
        """Return value and gradient at ``x``."""
        return self.base.point(x)

    def within(self, x: Tensor) -> Tensor:
        """Return the nearest point of the domain."""
        return self.base.within(x)

    def hessian(self, x: Tensor) -> Operator:
        """Return the Hessian at ``x``."""
        return self.base.hessian(x)

    def _value(self, x: Tensor) -> Tensor:
        return self.base._value(x)

    def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.base._value_and_gradient(x)
