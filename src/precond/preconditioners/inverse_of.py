"""Any linear iteration as a preconditioner: the inverse of the operator, to an accuracy chosen on the way."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from precond.core import (
    Evidence,
    Health,
    IncompatibleError,
    Iteration,
    Need,
    Operator,
    OperatorTraits,
    Preconditioner,
    Progress,
    Scope,
    Status,
    Traits,
)

DIVERGED = 1e6
"""Growth of residuals over the least one from which on a system is taken to have no solution."""


class Forcing(abc.ABC):
    """How small the residual of an inner solve must be."""

    @abc.abstractmethod
    def bound(self, v: Tensor, solution: Callable[[], Tensor], shift: float) -> Tensor:
        """Say how small is small enough.

        Args:
            v: The right-hand side, ``[batch, n]``.
            solution: Returns the current iterate, ``[batch, n]``.
            shift: The shift of the system.

        Returns:
            The largest acceptable residual norm, shape ``[batch]``.
        """


@dataclasses.dataclass(frozen=True)
class SquareRoot(Forcing):
    """``min(cap, sqrt(||v||)) ||v||``: superlinear convergence of Newton's method (Dembo & Steihaug 1983).

    Attributes:
        cap: Largest relative residual.
        enough: A residual that is small enough whatever the right-hand side, as half of a tolerance on gradients.
    """

    cap: float = 0.5
    enough: float = 0.0

    def bound(self, v: Tensor, solution: Callable[[], Tensor], shift: float) -> Tensor:
        """Return the bound; it depends on the right-hand side alone."""
        norm = v.norm(dim=1)
        return torch.maximum(norm.sqrt() * norm, norm.new_tensor(self.enough)).minimum(self.cap * norm)


@dataclasses.dataclass(frozen=True)
class ShiftRelative(Forcing):
    """``fraction * shift * ||u||``: the error is small beside what the regularization itself leaves of the gradient."""

    fraction: float = 0.1

    def bound(self, v: Tensor, solution: Callable[[], Tensor], shift: float) -> Tensor:
        """Return the bound at the current iterate."""
        return self.fraction * shift * solution().norm(dim=1)


@dataclasses.dataclass
class InverseOfState:
    """What an inner solve starts from.

    Attributes:
        inner: The state of the inner preconditioner.
        operator: The operator last observed; ``None`` before the first evidence.
    """

    inner: Any
    operator: Operator | None = None


@final
@dataclasses.dataclass(frozen=True)
class InverseOf(Preconditioner[InverseOfState]):
    """``(B + shift I)^-1`` by an inner linear iteration, started at zero and stopped by a forcing rule.

    Where the iteration meets negative curvature (or breaks down) the iterate so far is the answer, and that of the
    inner preconditioner when there is none yet.

    Attributes:
        iteration: The inner iteration.
        inner: Its preconditioner, which observes the same evidence.
        forcing: When the inner solve is accurate enough.
        limit: Largest number of inner iterations; ``None`` means ``2 n``.
    """

    iteration: Iteration
    inner: Preconditioner[Any]
    forcing: Forcing = SquareRoot()
    limit: int | None = None

    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Refuse pairs that the iteration cannot work with."""
        inner = self.inner.traits
        if not self.iteration.square:
            raise IncompatibleError("InverseOf needs an iteration for square systems, such as CG")
        if self.iteration.symmetric_preconditioner and not (inner.symmetric and inner.definite):
            raise IncompatibleError(
                f"{type(self.iteration).__name__} needs a symmetric positive definite inner preconditioner; "
                f"{type(self.inner).__name__} is not: use Identity()"
            )

    @property
    def needs(self) -> Need:
        """The operator, and what the inner preconditioner needs."""
        return Need.OPERATOR | self.inner.needs

    @property
    def traits(self) -> Traits:
        """Depends on an inner tolerance, so not fixed and only nearly linear."""
        return Traits(linear=False, symmetric=False, definite=False, fixed=False, shiftable=True)

    def init(self, like: Tensor) -> InverseOfState:
        """Allocate the inner preconditioner's state."""
        return InverseOfState(self.inner.init(like[:1] if self.iteration.row_by_row else like))

    def observe(self, state: InverseOfState, evidence: Evidence) -> None:
        """Keep the operator; the inner preconditioner observes, too."""
        state.operator = evidence.operator
        self.inner.observe(state.inner, evidence)

    def refresh(self, state: InverseOfState) -> Health:
        """Refresh the inner preconditioner."""
        return self.inner.refresh(state.inner)

    def apply(self, state: InverseOfState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``(B + shift I)^-1 v`` to the accuracy that the forcing rule asks for."""
        if state.operator is None:
            raise TypeError("InverseOf has not observed an operator: the driver must provide Need.OPERATOR")
        operator = _Shifted(state.operator, shift) if shift else state.operator
        inner_shift = shift if self.inner.traits.shiftable else 0.0

        def precondition(r: Tensor) -> Tensor:
            return self.inner.apply(state.inner, r, shift=inner_shift)

        limit = 2 * v[0].numel() if self.limit is None else self.limit
        floor = 4 * torch.finfo(v.dtype).eps * v.norm(dim=1)
        answer, best = torch.zeros_like(v), _Best(v)
        done = floor <= 0  # the solution for a zero right-hand side is zero
        for step, progress in enumerate(self.iteration.iterate(operator, v, precondition, torch.zeros_like(v))):
            if progress.failure is not None:
                if progress.failure is Status.FAILED_INDEFINITE_OPERATOR:
                    answer = torch.where(done[:, None], answer, progress.solution())
                break
            if step == 0:
                continue
            accurate = progress.residual <= torch.maximum(self.forcing.bound(v, progress.solution, shift), floor)
            lost = ~torch.isfinite(progress.residual) | best.passed(progress)
            last = progress.solved or step >= limit or bool((done | accurate | lost).all())
            if last or len(v) > 1:
                there = progress.solution() if bool(accurate.any()) else best.or_(progress)
                answer = torch.where(done[:, None], answer, there)
            if last:
                break
            done = done | accurate
        found = (answer != 0).any(1, keepdim=True)
        return answer if bool(found.all()) else torch.where(found, answer, precondition(v))


class _Best:
    """The iterate of one system with the least residual, near enough.

    A singular system without a solution, such as that of a function that is linear in some directions, has iterates
    that grow without end; those before are good directions.

    Args:
        v: The right-hand side, ``[batch, n]``; of a batch nothing is kept.
    """

    def __init__(self, v: Tensor) -> None:
        self._one = len(v) == 1
        self._residual = float(v.norm()) if self._one else 0.0
        self._x: Tensor | None = None

    def passed(self, progress: Progress) -> bool:
        """Whether residuals have grown since far beyond the least; a smaller one is noted, with its iterate."""
        if not self._one:
            return False
        residual = float(progress.residual)
        if residual < 0.5 * self._residual:
            self._residual, self._x = residual, progress.solution().clone()
        return residual > DIVERGED * self._residual

    def or_(self, progress: Progress) -> Tensor:
        """Return the iterate kept where its residual is much less than the last."""
        if self._x is None or not self._one or float(progress.residual) < 2 * self._residual:
            return progress.solution()
        return self._x


class _Shifted(Operator):
    """``A + shift I``."""

    def __init__(self, base: Operator, shift: float) -> None:
        self.shape, self.dtype, self.device = base.shape, base.dtype, base.device
        self.traits = OperatorTraits(symmetric=base.traits.symmetric)
        self._base = base
        self._shift = shift

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x + shift x``."""
        return self._base.matvec(x).add(x, alpha=self._shift)
