"""The central noun: approximate inverse curvature, with four verbs."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from precond.core.errors import IncompatibleError
from precond.core.evidence import Evidence, need
from precond.core.traits import Need, Scope, Traits

S = TypeVar("S")


@dataclasses.dataclass(frozen=True)
class Health:
    """How a refresh went.

    Attributes:
        failures: How many members of the batch kept their last good factor.
        detail: One line on what was done about it; empty when all went well.
        members: Mask ``[batch]`` of those members; ``None`` if nobody told them apart.
        hopeless: Whether the last good factor is too old to be trusted, so that a driver should stop.
    """

    failures: int = 0
    detail: str = ""
    hopeless: bool = False
    members: Tensor | None = dataclasses.field(default=None, compare=False, kw_only=True)

    @classmethod
    def of(cls, failed: Tensor, detail: str) -> Health:
        """Report the members of a mask ``[batch]``; all is well if there are none."""
        failures = int(failed.sum())
        return cls(failures, detail, members=failed) if failures else HEALTHY

    def __add__(self, other: Health) -> Health:
        """Combine two reports."""
        if other is HEALTHY:
            return self
        detail = "; ".join(part for part in (self.detail, other.detail) if part)
        known = [health.members for health in (self, other) if health.members is not None]
        members = known[0] | known[1] if len(known) == 2 else known[0] if known else None
        return Health(self.failures + other.failures, detail, self.hopeless or other.hopeless, members=members)


HEALTHY = Health()


class Preconditioner(abc.ABC, Generic[S]):
    """Approximate inverse curvature: maps covectors (gradients, residuals) to vectors (steps, corrections).

    Subclasses are frozen, final dataclasses of hyperparameters; every tensor lives in the state ``S``.
    All tensors carry a batch as leading axis, and members of a batch never interact.
    """

    needs: ClassVar[Need] = Need.NOTHING
    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    trivial: ClassVar[bool] = False
    """It is the identity, so that a driver may leave it out."""
    side_by_side: ClassVar[bool] = False
    """Takes and returns vectors side by side as well: the batch ``[batch, n]`` as a transpose."""

    @property
    def traits(self) -> Traits:
        """What kind of map ``apply`` is."""
        return Traits()

    @property
    def elementwise(self) -> Preconditioner[Any] | None:
        """The same idea with one number per entry, for tensors that are no matrices; ``None`` where there is none."""
        return self if self.scope is Scope.ELEMENTWISE else None

    @abc.abstractmethod
    def init(self, like: Tensor) -> S:
        """Allocate the state for arguments shaped ``[batch, *shape]`` like ``like``; reads no values."""

    def prime(self, state: S, evidence: Evidence) -> Health:
        """Absorb the very first evidence, before any step is taken (only methods whose cadence asks)."""
        return HEALTHY  # most parts need no priming

    def observe(self, state: S, evidence: Evidence) -> None:  # a constant map observes nothing
        """Absorb evidence of an accepted point, in place and cheaply."""

    @property
    def refreshes(self) -> bool:
        """Whether ``refresh`` does anything, so that a driver may leave it out, and not count it."""
        return type(self).refresh is not Preconditioner.refresh

    def refresh(self, state: S) -> Health:
        """Recompute the expensive part in place: roots, factors, bases. Never raises on numerical failure."""
        return HEALTHY

    @abc.abstractmethod
    def apply(self, state: S, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``(B + shift M)^-1 v``, approximately; writes neither to the state nor to ``v``."""

    def compiled(self, state: S) -> tuple[Any, ...] | None:
        """Return the arrays of ``apply`` where it is a pair of triangular sweeps, as `core.Kernel` takes them.

        Args:
            state: The state, set up.

        Returns:
            Both triangles and three diagonals; empty for the identity; ``None`` for any other map.
        """
        return () if self.trivial else None

    def guess(self, state: S, b: Tensor) -> Tensor | None:
        """Return a first approximation of the solution of the system for ``b``, if the setup gives one.

        Args:
            state: The state, set up.
            b: Right-hand sides, shape ``[batch, m]``.

        Returns:
            Starting points, shape ``[batch, n]``, or ``None`` when zero is as good.
        """
        return None

    def metric(self, state: S, v: Tensor) -> Tensor:
        """Return ``M v``, where a shift adds multiples of ``M``: the identity, unless a part scales variables."""
        return v

    def apply_adjoint(self, state: S, v: Tensor) -> Tensor:
        """Return ``P^H v`` for a linear map ``P``; a symmetric map is its own adjoint."""
        if self.traits.symmetric:
            return self.apply(state, v)
        raise IncompatibleError(f"{type(self).__name__} has no adjoint: use jacobi, ssor, ic0 or ilu")


class Turned(Preconditioner[S]):
    """A preconditioner that works in orthogonal coordinates of its own, which turn at `prime` and `refresh` alone.

    Between two turns a driver may keep what it averages in these coordinates, and so enter them once a step.
    """

    @property
    def growth(self) -> float | None:
        """By how much a turn may lengthen the longest entry of a direction; ``None`` for however much."""
        return None

    def coordinates(self, like: Tensor) -> Tensor:
        """Return a tensor shaped as the coordinates of ``like`` are, for a state to be allocated; reads no values."""
        return like

    @abc.abstractmethod
    def enter(self, state: S, v: Tensor) -> Tensor:
        """Return the coordinates of ``v``, with the batch as leading axis."""

    @abc.abstractmethod
    def leave(self, state: S, v: Tensor) -> Tensor:
        """Return the vector whose coordinates are ``v``."""

    @abc.abstractmethod
    def observe_within(self, state: S, within: Tensor, evidence: Evidence) -> None:
        """Absorb evidence whose gradient has the coordinates ``within``."""

    @abc.abstractmethod
    def apply_within(self, state: S, within: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return the coordinates of ``(B + shift I)^-1 v`` for a ``v`` with the coordinates ``within``."""

    def observe(self, state: S, evidence: Evidence) -> None:
        """Absorb evidence of an accepted point."""
        self.observe_within(state, self.enter(state, need(evidence.gradient, "gradient")), evidence)

    def apply(self, state: S, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Enter the coordinates, precondition, leave them."""
        return self.leave(state, self.apply_within(state, self.enter(state, v), shift=shift))
