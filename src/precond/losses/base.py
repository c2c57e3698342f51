"""What a structured loss is: a function of torch operations that also makes an oracle of its own."""

from __future__ import annotations

import abc
import weakref
from typing import ClassVar

import torch
from torch import Tensor

from precond.core import Coordinates, Objective, Operator, Work


class Loss(abc.ABC):
    """A smooth function of a vector ``[n]`` with structure.

    Attributes:
        variables: Number ``n`` of variables.
        dtype: Precision of its data.
    """

    variables: int
    dtype: torch.dtype

    @abc.abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return the value at ``x`` ``[n]``, 0-d, differentiable twice."""

    @abc.abstractmethod
    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return value (0-d) and gradient (``[n]``) at ``x`` without a graph."""

    @abc.abstractmethod
    def hessian(self, x: Tensor, work: Work) -> Operator:
        """Return the Hessian at ``x``; its products are counted."""

    def coordinates(self, x: Tensor, work: Work) -> Coordinates | None:
        """Return the function as block coordinate descent sees it, at ``x``; ``None`` without columns of its own."""
        return None

    @abc.abstractmethod
    def lipschitz(self) -> float:
        """Return a bound on the largest eigenvalue of the Hessian anywhere."""

    def objective(self, work: Work | None = None) -> StructuredObjective:
        """Return the oracle, which counts."""
        return StructuredObjective(self, work)


class StructuredObjective(Objective):
    """The oracle of a structured loss.

    Args:
        loss: The loss.
        work: The account to charge.
    """

    _bounds: ClassVar[weakref.WeakKeyDictionary[Loss, float]] = weakref.WeakKeyDictionary()

    def __init__(self, loss: Loss, work: Work | None = None) -> None:
        super().__init__(work)
        self.structure = loss

    def hessian(self, x: Tensor) -> Operator:
        """Return the Hessian at ``x`` ``[1, n]``."""
        return self.structure.hessian(x[0], self.work)

    def coordinates(self, x: Tensor) -> Coordinates | None:
        """Return the function as block coordinate descent sees it, at ``x`` ``[n]``."""
        return self.structure.coordinates(x, self.work)

    def lipschitz(self) -> float | None:
        """Return a bound on the largest eigenvalue of the Hessian."""
        if self.structure not in self._bounds:
            self._bounds[self.structure] = self.structure.lipschitz()
        return self._bounds[self.structure]

    def _value(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.structure(x[0])

    def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = self.structure.value_and_gradient(x[0])
        return loss, gradient[None]
