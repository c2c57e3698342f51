"""How far to go along a direction."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar, Generic, Protocol, TypeVar

from torch import Tensor

from precond.core.evidence import Evidence
from precond.core.objective import Objective, Point
from precond.core.result import Status
from precond.core.state import NoState
from precond.core.traits import Need, Scope

S = TypeVar("S")


class StepRule(abc.ABC, Generic[S]):
    """How far to go. Subclasses are frozen dataclasses of hyperparameters; tensors live in ``S``."""

    needs: ClassVar[Need] = Need.NOTHING
    scope: ClassVar[Scope] = Scope.MATRIX
    """Whether entries of one tensor interact. Those that say `Scope.ELEMENTWISE` may be run on any part of a tensor."""

    @abc.abstractmethod
    def init(self, like: Tensor) -> S:
        """Allocate the state for points shaped like ``like``."""


class Factor(StepRule[S]):
    """A rule that multiplies the learning rate, knowing only the evidence and the direction."""

    @abc.abstractmethod
    def factor(self, state: S, evidence: Evidence, direction: Tensor) -> Tensor | float:
        """Return the factor on the learning rate: a number, or a tensor that broadcasts against ``direction``."""


class Shared(StepRule[S]):
    """A rule that multiplies the learning rate by a factor on which the parameters of a group agree.

    In each step the driver asks every parameter for its contribution, combines those of all parameters of a group that
    follow the same method, and hands the result back to each.
    """

    @abc.abstractmethod
    def contribute(self, state: S, evidence: Evidence, precondition: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what each member contributes, ``[batch]``, or several numbers for each, one member after the other.

        Args:
            state: Written in place.
            evidence: What this step saw.
            precondition: Applies the method's preconditioner.

        Returns:
            A vector.
        """

    @abc.abstractmethod
    def combine(self, contributions: Tensor) -> Tensor:
        """Return one number, 0-d, from the contributions of all parameters, ``[parameters]``, in any order."""

    @abc.abstractmethod
    def share(self, state: S, evidence: Evidence, combined: Tensor) -> Tensor:
        """Return the factors on the learning rate, ``[batch]`` or one per entry, from what was combined."""


@dataclasses.dataclass(frozen=True)
class Constant(Factor[NoState]):
    """The learning rate as it is; schedules act on the learning rate itself."""

    scope: ClassVar[Scope] = Scope.ELEMENTWISE

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def factor(self, state: NoState, evidence: Evidence, direction: Tensor) -> float:
        """Return 1."""
        return 1.0


@dataclasses.dataclass(frozen=True)
class Advance:
    """What a search did: the accepted point, or why there is none.

    Attributes:
        point: The next point (the old one when the search failed).
        failure: ``None`` when the step was accepted.
    """

    point: Point
    failure: Status | None = None


class Direction(Protocol):
    """What a search moves along: the preconditioner at the current point, bound to the gradient there."""

    def __call__(self, shift: float, against: Tensor | None = None) -> Tensor:
        """Return ``-(B + shift M)^-1 v``, shape ``[1, n]``.

        Args:
            shift: Multiple of the preconditioner's metric ``M`` (the identity, unless it says otherwise).
            against: The vector ``v``; ``None`` means the gradient, and then the answer is a direction of descent.

        Returns:
            The direction.
        """

    def metric(self, v: Tensor) -> Tensor:
        """Return ``M v``."""


class Search(StepRule[S]):
    """A rule that evaluates the objective at trial points: line searches, trust regions, regularization."""

    needs: ClassVar[Need] = Need.REPLAY
    shifts: ClassVar[bool] = False
    """Whether it calls ``direction`` with a shift other than zero, so that the preconditioner must accept one."""
    whole: float | None = None
    """The share of sufficient decrease with which a step of length 1 is always taken; ``None`` where none is."""
    preconditioned: ClassVar[bool] = True
    """Whether it asks for directions at all (False: it finds its own, and the preconditioner must be the identity)."""

    @abc.abstractmethod
    def advance(self, state: S, point: Point, direction: Direction, objective: Objective) -> Advance:
        """Move from ``point`` along ``direction(shift) = -(B + shift M)^-1 g``; state is written in place."""
