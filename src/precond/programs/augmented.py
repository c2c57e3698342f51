"""The classical augmented Lagrangian: a sequence of unconstrained problems."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from precond.core import Iterate, Program, ProgramIteration, Site, Status
from precond.core.materialize import materialize


@final
@dataclasses.dataclass(frozen=True)
class AugmentedLagrangian(ProgramIteration):
    """Minimize ``f + lambda' c + mu/2 ||c||^2`` more and more accurately, then ``lambda <- lambda + mu c``.

    The inner method is Newton's with the Hessian shifted by ``1 - lambda_min`` where it is indefinite, and Armijo's
    rule.

    Attributes:
        mu: First penalty.
        growth: Factor of the penalty where the violation has not fallen to a quarter.
        accuracy: First bound on the gradient of the subproblem; divided by ten each time.
        inner: Limit on Newton steps of one subproblem.
        armijo: Sufficient decrease.
    """

    mu: float = 1.0
    growth: float = 1.5
    accuracy: float = 0.1
    inner: int = 100
    armijo: float = 1e-4

    def iterate(self, program: Program, x0: Tensor, tolerance: float) -> Iterator[Iterate]:
        """Yield an iterate after each subproblem; facts: ``inner`` steps, ``mu``."""
        site = program.site(x0)
        multipliers, mu, accuracy, before = torch.zeros_like(site.constraints), self.mu, self.accuracy, math.inf
        yield Iterate(site, multipliers)
        while True:
            site, steps = self._minimize(program, site, multipliers, mu, max(accuracy, tolerance / 2))
            multipliers = multipliers + mu * site.constraints
            violation = float(site.constraints.norm())
            failure = None if math.isfinite(violation) and mu < 1e16 else Status.FAILED_STAGNATION
            yield Iterate(site, multipliers, facts={"inner": steps, "mu": mu}, failure=failure)
            if failure is not None:
                return
            if violation > before / 4:
                mu *= self.growth
            before, accuracy = violation, accuracy / 10

    def _minimize(self, program: Program, site: Site, multipliers: Tensor, mu: float, bound: float) -> tuple[Site, int]:
        """Return a point where the gradient of the augmented Lagrangian is at most ``bound``."""
        for count in range(self.inner):
            guess = multipliers + mu * site.constraints
            gradient = site.stationarity(guess)
            if not float(gradient.norm()) > bound:
                return site, count
            jacobian = materialize(site.jacobian)
            hessian = materialize(program.hessian(site, guess)) + mu * jacobian.mT @ jacobian
            hessian = (hessian + hessian.mT) / 2
            if not bool(torch.isfinite(hessian).all()):
                return site, count
            least = float(torch.linalg.eigvalsh(hessian)[0])
            if least <= 0:
                hessian.diagonal().add_(1 - least)
            d = -torch.linalg.solve(hessian, gradient)
            here, slope, step = self._value(site.loss, site.constraints, multipliers, mu), float(gradient @ d), 1.0
            rounding = 10 * torch.finfo(d.dtype).eps * abs(here)
            while not self._value(*program.values(site.x + step * d), multipliers, mu) <= (
                here + self.armijo * step * slope + rounding
            ):
                step /= 2
                if step < 1e-14:
                    return site, count
            site = program.site(site.x + step * d)
        return site, self.inner

    @staticmethod
    def _value(loss: Tensor, c: Tensor, multipliers: Tensor, mu: float) -> float:
        return float(loss + multipliers @ c + mu / 2 * (c @ c))
