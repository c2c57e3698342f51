"""Composite problems, ``f(x) + g(x)`` with ``f`` smooth and ``g`` a penalty, and the iterations that minimize them."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from precond.core.objective import Objective
from precond.core.operator import Operator
from precond.core.penalty import Penalty
from precond.core.result import Status
from precond.core.traits import Need
from precond.core.work import Work


@dataclasses.dataclass(frozen=True)
class Spot:
    """A point of a composite problem with what was evaluated there.

    Attributes:
        x: The point, ``[n]``.
        loss: The smooth part ``f(x)``, 0-d.
        gradient: Its gradient, ``[n]``.
        total: ``f(x) + g(x)``, 0-d.
        slack: The shortest vector of ``grad f + dg``, ``[n]``.
    """

    x: Tensor
    loss: Tensor
    gradient: Tensor
    total: Tensor
    slack: Tensor

    @property
    def measure(self) -> float:
        """The distance of ``-grad f`` to the subdifferential of the penalty, in the Euclidean norm."""
        return float(torch.linalg.vector_norm(self.slack))


class Composite:
    """The oracle of ``f(x) + g(x)``; the smooth part counts its evaluations.

    Args:
        smooth: The smooth part.
        penalty: The penalty.
    """

    def __init__(self, smooth: Objective, penalty: Penalty) -> None:
        self.smooth, self.penalty = smooth, penalty
        self._last: tuple[Tensor, Tensor] | None = None  # a point and the row of a batch that it was evaluated as

    @property
    def work(self) -> Work:
        """The account that is charged."""
        return self.smooth.work

    def loss(self, x: Tensor) -> Tensor:
        """Return ``f(x)`` at ``x`` ``[n]``, and count one loss."""
        return self.smooth.value(x[None])

    def value(self, x: Tensor) -> Tensor:
        """Return ``f(x) + g(x)`` at ``x`` ``[n]``, and count one loss."""
        loss = self.loss(x)
        return loss + self.penalty.value(x).to(loss)

    def spot(self, x: Tensor) -> Spot:
        """Return everything of first order at ``x`` ``[n]``, and count one gradient."""
        self._last = (x, x[None])
        point = self.smooth.point(self._last[1])
        return self.known(x, point.loss, point.gradient[0])

    def known(self, x: Tensor, loss: Tensor, gradient: Tensor) -> Spot:
        """Return the spot at ``x`` where loss and gradient are known already."""
        return Spot(
            x, loss, gradient, loss + self.penalty.value(x).to(loss), self.penalty.slack(x, gradient)
        )  # fmt: skip

    def hessian(self, x: Tensor) -> Operator:
        """Return the Hessian of the smooth part at ``x`` ``[n]``; its graph is at hand where `spot` was called last."""
        return self.smooth.hessian(self._last[1] if self._last is not None and self._last[0] is x else x[None])


@dataclasses.dataclass(frozen=True)
class Standing:
    """Where an iteration for a composite problem stands.

    Attributes:
        x: The point, ``[n]``.
        measure: The iteration's own estimate of the length of the slack; exact where it has the gradient at ``x``.
        spot: Returns everything of first order at ``x``; may cost a gradient, so call it when needed.
        facts: Numbers that say how the last step went (``"step"``, ``"working set"``), for callbacks.
        failure: Why the iteration cannot go on; ``None`` while it can.
    """

    x: Tensor
    measure: float
    spot: Callable[[], Spot]
    facts: dict[str, float] = dataclasses.field(default_factory=dict)
    failure: Status | None = None

    @classmethod
    def at(cls, spot: Spot, facts: dict[str, float] | None = None, failure: Status | None = None) -> Standing:
        """Return the standing of an iteration that has evaluated its point."""
        return cls(spot.x, spot.measure, lambda: spot, facts or {}, failure)


class CompositeIteration(abc.ABC):
    """One method for composite problems, as a frozen dataclass of parts and hyperparameters."""

    needs: ClassVar[Need] = Need.GRADIENT
    separable: ClassVar[bool] = False
    """Requires a penalty that is a sum of functions of one variable each."""

    @abc.abstractmethod
    def iterate(self, problem: Composite, x0: Tensor, tolerance: float) -> Iterator[Standing]:
        """Yield where it stands at ``x0``, then after each iteration; return when nothing more can be done.

        Args:
            problem: The oracle.
            x0: Starting point in the domain of the penalty, ``[n]``.
            tolerance: What the caller will ask of the measure, so that inner accuracies need not go beyond.

        Returns:
            A generator, which does work only when asked for the next standing.
        """
