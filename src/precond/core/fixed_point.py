"""Fixed points of nonexpansive maps, and the iterations that look for them."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from torch import Tensor

from precond.core.result import Certificate, Status
from precond.core.traits import Need


@dataclasses.dataclass(frozen=True)
class Proof:
    """That a problem has no solution, verified from the problem.

    Attributes:
        status: What is proven.
        certificate: The numbers of the proof.
        multipliers: The vector that proves it.
    """

    status: Status
    certificate: Certificate
    multipliers: Any


class Splitting(abc.ABC):
    """A nonexpansive map whose fixed points solve an optimization problem, and which can prove that there are none."""

    @abc.abstractmethod
    def __call__(self, z: Tensor) -> Tensor:
        """Return the image of a point."""

    @abc.abstractmethod
    def start(self) -> Tensor:
        """Return a point to start from."""

    @abc.abstractmethod
    def solution(self, z: Tensor) -> Any:
        """Return what a fixed point says of the problem."""

    @abc.abstractmethod
    def shortfall(self, z: Tensor) -> float:
        """Return how far what a point says of the problem is from solving it, relative to the problem's numbers."""

    @abc.abstractmethod
    def prove(self, displacement: Tensor) -> Proof | None:
        """Return a proof that there is no solution, or ``None`` where the displacement is none.

        Args:
            displacement: An estimate of the shortest vector in the closure of the range of ``z - T(z)``.

        Returns:
            The proof.
        """


@dataclasses.dataclass(frozen=True)
class Footing:
    """Where an iteration for a fixed point stands.

    Attributes:
        x: The point, ``[n]``.
        image: Its image, ``[n]``.
        drift: An estimate of the displacement from all steps so far, ``[n]``; ``None`` where there is none.
    """

    x: Tensor
    image: Tensor
    drift: Tensor | None = None

    @property
    def residual(self) -> Tensor:
        """``x - T(x)``, ``[n]``, which tends to the displacement where there is no fixed point."""
        return self.x - self.image


class FixedPointIteration(abc.ABC):
    """One method for fixed points, as a frozen dataclass of hyperparameters."""

    needs: ClassVar[Need] = Need.NOTHING

    @abc.abstractmethod
    def iterate(self, operator: Callable[[Tensor], Tensor], x0: Tensor) -> Iterator[Footing]:
        """Yield where it stands at ``x0``, then after each evaluation of the map.

        Args:
            operator: The map.
            x0: Starting point, ``[n]``.

        Returns:
            A generator, which does work only when asked for the next footing.
        """
