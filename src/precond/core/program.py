"""Nonlinear programs: minimize a function under equations and bounds, and the iterations that do so."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from precond.core.operator import Operator
from precond.core.result import Status
from precond.core.traits import Need
from precond.core.work import Work


@dataclasses.dataclass(frozen=True)
class Site:
    """A point of a program with everything of first order that was evaluated there.

    Attributes:
        x: The point, ``[n]``.
        loss: The objective, 0-d.
        gradient: Its gradient, ``[n]``.
        constraints: The constraints ``c(x)``, ``[m]``.
        jacobian: Their Jacobian, an operator of shape ``[m, n]``.
    """

    x: Tensor
    loss: Tensor
    gradient: Tensor
    constraints: Tensor
    jacobian: Operator

    def stationarity(self, multipliers: Tensor) -> Tensor:
        """Return the gradient of the Lagrangian in ``x``, ``grad f + J' lambda``, ``[n]``."""
        return self.gradient + self.jacobian.rmatvec(multipliers[None])[0]


class Program(abc.ABC):
    """Minimize ``f(x)`` subject to ``c(x) = 0`` and ``lower <= x <= upper``; counts every evaluation.

    Args:
        lower: Lower bounds, ``[n]``, ``-inf`` where there are none.
        upper: Upper bounds, ``[n]``, ``inf`` where there are none.
        equations: Number ``m`` of equations.
        work: The account to charge.

    Attributes:
        slacks: Where the last ``k`` variables are slacks, their equations, ``[k]``: ``c_i(x) - s = 0``, and ``s``
            occurs nowhere else; ``None`` where there are none.
        dense: Side ``n + m`` up to which a Newton system without entries is worth making dense.
    """

    slacks: Tensor | None = None
    dense: int = 3000

    def __init__(self, lower: Tensor, upper: Tensor, equations: int, work: Work | None = None) -> None:
        self.lower, self.upper = lower, upper
        self.equations = equations
        self.work = work if work is not None else Work()

    @property
    def variables(self) -> int:
        """Number ``n`` of variables."""
        return self.lower.numel()

    @property
    def bounded(self) -> bool:
        """Whether any bound is finite."""
        return bool(torch.isfinite(self.lower).any() or torch.isfinite(self.upper).any())

    def fitted(self, x: Tensor, constraints: Tensor) -> tuple[Tensor, Tensor]:
        """Return a point with the slacks within their bounds that fit it best, and the constraints there."""
        if self.slacks is None:
            return x, constraints
        n = x.numel() - len(self.slacks)
        before = x[n:]
        after = (before + constraints[self.slacks]).clamp(self.lower[n:], self.upper[n:])
        return torch.cat([x[:n], after]), constraints.index_add(0, self.slacks, before - after)

    def values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return objective and constraints at ``x`` ``[n]``, and count one loss."""
        self.work.losses += 1
        return self._values(x)

    def site(self, x: Tensor) -> Site:
        """Return values and first derivatives at ``x`` ``[n]``; count one gradient and one Jacobian."""
        self.work.gradients += 1
        self.work.jacobians += 1
        return self._site(x)

    @abc.abstractmethod
    def hessian(self, site: Site, multipliers: Tensor) -> Operator:
        """Return the Hessian of ``f + lambda' c`` in ``x``, symmetric, ``[n, n]``; its products are counted."""

    @abc.abstractmethod
    def _values(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    @abc.abstractmethod
    def _site(self, x: Tensor) -> Site: ...


@dataclasses.dataclass(frozen=True)
class Iterate:
    """Where an iteration for a program stands.

    Attributes:
        site: The point.
        multipliers: Of the equations, ``[m]``, in ``f + lambda' c``.
        bound_multipliers: ``z`` in ``grad f + J' lambda - z = 0``, ``[n]``: not negative at lower bounds, not positive
            at upper ones; ``None`` for iterations that know no bounds.
        facts: Numbers that say how the last step went (``"step"``, ``"penalty"``), for callbacks.
        failure: Why the iteration cannot go on; ``None`` while it can.
    """

    site: Site
    multipliers: Tensor
    bound_multipliers: Tensor | None = None
    facts: dict[str, float] = dataclasses.field(default_factory=dict)
    failure: Status | None = None


class ProgramIteration(abc.ABC):
    """One method for nonlinear programs, as a frozen dataclass of parts and hyperparameters."""

    needs: ClassVar[Need] = Need.GRADIENT | Need.OPERATOR
    bounds: ClassVar[bool] = False
    """Whether it handles bounds on variables."""

    @abc.abstractmethod
    def iterate(self, program: Program, x0: Tensor, tolerance: float) -> Iterator[Iterate]:
        """Yield where it stands at ``x0``, then after each iteration; return when nothing more can be done.

        Args:
            program: The oracle.
            x0: Starting point, ``[n]``.
            tolerance: What the caller will ask of the residuals, so that inner accuracies need not go beyond.

        Returns:
            A generator, which does work only when asked for the next iterate.
        """
