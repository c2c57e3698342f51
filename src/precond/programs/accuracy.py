"""How accurately the Newton system of a program is solved."""

from __future__ import annotations

import abc
import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.operators.kkt import KKT
from precond.programs.merit import ExactLagrangian

RANK = 1e-2
"""Least eigenvalue of ``J J'`` that accuracies are prescribed for."""


@dataclasses.dataclass(frozen=True)
class System:
    """What a rule of accuracy may know of the Newton system at hand.

    Attributes:
        size: ``||grad L||``, the norm of its right-hand side.
        operator: Its matrix.
        hessian: Dense Hessian of the Lagrangian before any shift, ``[n, n]``, or ``None`` when it is not dense.
        jacobian: Dense Jacobian, ``[m, n]``, or ``None``.
        shift: Multiple of the identity added to the Hessian.
        estimated: Residuals that are reported of it are lower bounds.
    """

    size: float
    operator: KKT
    hessian: Tensor | None = None
    jacobian: Tensor | None = None
    shift: float = 0.0
    estimated: bool = False


class Accuracy(abc.ABC):
    """Bounds the residual of the Newton system relative to ``||grad L||``."""

    dense: bool = False
    """Whether it asks for dense matrices."""

    @abc.abstractmethod
    def begin(self, system: System, merit: ExactLagrangian, before: float | None) -> float:
        """Return the state for a new system: ``before`` is that of the last one, ``None`` at the start."""

    @abc.abstractmethod
    def bound(self, system: System, state: float) -> float:
        """Return the largest acceptable ratio of residual to ``size``."""

    @abc.abstractmethod
    def tighten(self, system: System, state: float, merit: ExactLagrangian) -> tuple[float, bool]:
        """Return the state after a step was no descent, and whether the penalties are to change, too.

        ``merit`` holds the penalties as they would be after the change.
        """


@final
@dataclasses.dataclass(frozen=True)
class Tested(Accuracy):
    """Start at ``min(start, size^order)``; where the step is no descent, divide; change penalties at the end of it.

    The descent of the merit along the step, which is what accuracy is for, is tested anyway. With ``order > 0`` the
    accuracy grows with convergence, which is then superlinear, of order ``1 + order``.

    Attributes:
        start: Largest relative residual.
        order: Power of ``||grad L||``; 0 is linear convergence.
        factor: What the bound is multiplied by where the step is no descent.
        floor: The penalties change once it would fall below.
    """

    start: float = 0.1
    order: float = 0.5
    factor: float = 0.1
    floor: float = 1e-7

    def begin(self, system: System, merit: ExactLagrangian, before: float | None) -> float:
        """Return the first bound."""
        return max(self.floor, min(self.start, system.size**self.order)) if self.order else self.start

    def bound(self, system: System, state: float) -> float:
        """Return the state."""
        return state

    def tighten(self, system: System, state: float, merit: ExactLagrangian) -> tuple[float, bool]:
        """Divide the bound; at the floor, ask for other penalties."""
        if state * self.factor >= self.floor:
            return state * self.factor, False
        return state, True


@final
@dataclasses.dataclass(frozen=True)
class Prescribed(Accuracy):
    """The paper's rule: ``||Gamma|| Psi ||r|| <= theta delta ||grad L||`` with an adaptive ``delta``.

    ``Psi = 20 max(||B||^2, 1) / (min(xi_G, 1) min(xi_B, 1))`` bounds ``||Gamma^-1||``, where ``xi_G`` is the least
    eigenvalue of ``J J'``, but at least 1e-2, below which they stop, and norms are Frobenius norms. ``delta`` never
    grows, and is at most ``(1/2 - beta) eta2 / ((1 + eta1 + eta2) Upsilon^2 Psi^2)``, ``Upsilon = max(||J||, ||H||,
    1)``, but not below ``floor``.

    Source: I. Hong, S. Na, M. W. Mahoney, M. Kolar, arXiv 2305.18379 (constants of their published code).

    Attributes:
        delta: First ``delta``.
        beta: Armijo constant of the line search.
        growth: ``nu``; ``delta`` is divided by ``nu^4`` where the step is no descent.
        margin: ``xi_B``.
        order: ``theta = min(1, size^order)``: 0 as in the code, larger for superlinear convergence.
        floor: Least ``delta``.
    """

    delta: float = 0.1
    beta: float = 0.1
    growth: float = 1.5
    margin: float = 0.1
    order: float = 0.0
    floor: float = 1e-6
    dense: bool = True

    def begin(self, system: System, merit: ExactLagrangian, before: float | None) -> float:
        """Return ``delta`` for the new system."""
        return self._least(system, merit, self.delta if before is None else before)

    def bound(self, system: System, state: float) -> float:
        """Return ``theta delta / (||Gamma|| Psi)``."""
        hessian, jacobian = _matrices(system)
        b = hessian + system.shift * torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
        gamma = float((b.square().sum() + 2 * jacobian.square().sum()).sqrt())
        theta = min(1.0, system.size**self.order) if self.order else 1.0
        return theta * state / (gamma * self._psi(system))

    def tighten(self, system: System, state: float, merit: ExactLagrangian) -> tuple[float, bool]:
        """Divide ``delta`` by ``nu^4`` and let the penalties change."""
        return self._least(system, merit, state / self.growth**4), True

    def _least(self, system: System, merit: ExactLagrangian, state: float) -> float:
        hessian, jacobian = _matrices(system)
        upsilon = max(float(torch.linalg.matrix_norm(jacobian)), float(torch.linalg.matrix_norm(hessian)), 1.0)
        scale = (1 + merit.eta1 + merit.eta2) * upsilon**2 * self._psi(system) ** 2
        return max(min(state, (0.5 - self.beta) * merit.eta2 / scale), self.floor)

    def _psi(self, system: System) -> float:
        hessian, jacobian = _matrices(system)
        b = hessian + system.shift * torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
        xi = float(torch.linalg.eigvalsh(jacobian @ jacobian.mT)[0]) if len(jacobian) else 1.0
        return 20 * max(float(b.square().sum()), 1.0) / (min(max(xi, RANK), 1.0) * min(self.margin, 1.0))


def _matrices(system: System) -> tuple[Tensor, Tensor]:
    assert system.hessian is not None, "asked for by `dense`"
    assert system.jacobian is not None
    return system.hessian, system.jacobian
