"""Newton's method on the exact augmented Lagrangian, with inexact and even random inner solves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor

from precond.core import Iterate, Program, ProgramIteration, Progress, Site, Status
from precond.programs.accuracy import Accuracy, System, Tested
from precond.programs.directions import Directions
from precond.programs.merit import ExactLagrangian, Slopes
from precond.programs.multipliers import least_squares_multipliers
from precond.programs.restarts import Restarts

LARGEST, LEAST = 1e8, 1e-8
"""Penalties beyond which a step is taken as it is."""


@final
@dataclasses.dataclass(frozen=True)
class SketchedNewton(ProgramIteration):
    """Propose a step by any inner solver, accept it by the descent of the exact augmented Lagrangian.

    In each iteration the Newton system ``[[B, J'], [J, 0]] z = -(grad_x L, c)`` is solved by ``directions`` until the
    residual is within the bound of ``accuracy`` *and* ``z`` is a descent direction of the merit,
    ``<grad M, z> <= -eta2/2 ||grad L||^2``; where it is not, the bound is tightened or the penalties change, and
    the inner solve goes on from where it is. Then ``x`` and ``lambda`` move together by Armijo's rule on the merit.
    Where steps stay short `Restarts` finds another point to start from; where constraints are dependent the second
    block is shifted, and multipliers that have run away are fitted anew.

    Attributes:
        directions: What proposes solutions of the Newton systems.
        accuracy: How accurate they must be.
        eta1: First penalty on the constraints.
        eta2: First penalty on the gradient of the Lagrangian.
        growth: ``nu``: ``eta1`` is multiplied by its square and ``eta2`` divided by it.
        armijo: Sufficient decrease.
    """

    directions: Directions[Any]
    accuracy: Accuracy = Tested()
    eta1: float = 1.0
    eta2: float = 0.1
    growth: float = 1.5
    armijo: float = 0.1

    def iterate(self, program: Program, x0: Tensor, tolerance: float) -> Iterator[Iterate]:
        """Yield the iterates; facts: ``inner`` iterations, ``step``, ``eta1``, ``eta2``, ``shift``."""
        site, multipliers, merit, state, memory = self._anew(program.site(x0))
        restarts = Restarts(tolerance)
        yield Iterate(site, multipliers)
        while True:
            hessian = program.hessian(site, multipliers)
            right = torch.cat([site.stationarity(multipliers), site.constraints])
            size = float(right.norm())
            system = self.directions.system(
                hessian, site.jacobian, size, memory, program.work, dense=self.accuracy.dense
            )
            if system.operator.delta and restarts.wild(multipliers):
                site, multipliers, merit, state, memory = self._anew(site)
                continue
            slopes = Slopes.at(site, multipliers, hessian)
            state = self.accuracy.begin(system, merit, state)
            proposals = self.directions.proposals(system, -right, memory, program.work)
            z, merit, state, inner = self._accept(proposals, right, slopes, system, merit, state)
            program.work.inner += inner
            step, found = self._search(program, site, multipliers, z, merit, slopes)
            facts = {
                "inner": inner, "step": step, "eta1": merit.eta1, "eta2": merit.eta2, "shift": system.operator.shift,
            }  # fmt: skip
            site, multipliers = found or (site, multipliers)
            if restarts.due(None if found is None else step):
                other = restarts.point(program, site)
                if other is not None:
                    site, multipliers, merit, state, memory = self._anew(other)
                    found = site, multipliers
            if found is None:
                failure = Status.FAILED_SINGULAR_JACOBIAN if system.operator.delta else Status.FAILED_LINE_SEARCH
                failure = Status.FAILED_INFEASIBLE if restarts.stuck is not None else failure
                yield Iterate(restarts.stuck or site, multipliers, facts=facts, failure=failure)
                return
            yield Iterate(site, multipliers, facts=facts)

    def _anew(self, site: Site) -> tuple[Site, Tensor, ExactLagrangian, float | None, Any]:
        """Return how a run starts from a point: multipliers, penalties, no accuracy yet, and no memory."""
        return (
            site, least_squares_multipliers(site), ExactLagrangian(self.eta1, self.eta2), None,
            self.directions.memory(),
        )  # fmt: skip

    def _accept(
        self,
        proposals: Iterator[Progress],
        right: Tensor,
        slopes: Slopes,
        system: System,
        merit: ExactLagrangian,
        state: float,
    ) -> tuple[Tensor, ExactLagrangian, float, int]:
        """Let proposals improve until the merit accepts one; return it with the penalties it took."""
        bound = self.accuracy.bound(system, state) * system.size
        progress: Progress | None = None
        for count, progress in enumerate(proposals):
            at_last = progress.solved or progress.failure is not None
            while at_last or float(progress.residual) <= bound:
                z = progress.solution()[0]
                if system.estimated and not at_last and _residual(system, z, right) > bound:
                    break
                slope = float(slopes.gradient(merit) @ z)
                if slope <= -merit.eta2 / 2 * system.size**2 or merit.eta1 > LARGEST or merit.eta2 < LEAST:
                    return z, merit, state, count
                wider = ExactLagrangian(merit.eta1 * self.growth**2, merit.eta2 / self.growth)
                state, change = self.accuracy.tighten(system, state, wider)
                merit = wider if change or at_last else merit
                bound = self.accuracy.bound(system, state) * system.size
        assert progress is not None, "proposals begin with the progress at the start"
        return progress.solution()[0], merit, state, count

    def _search(
        self, program: Program, site: Site, multipliers: Tensor, z: Tensor, merit: ExactLagrangian, slopes: Slopes
    ) -> tuple[float, tuple[Site, Tensor] | None]:
        """Return the accepted step and where it leads; ``None`` when there is none."""
        here, slope = merit.value(site, multipliers), float(slopes.gradient(merit) @ z)
        rounding = 10 * torch.finfo(z.dtype).eps * abs(here)
        dx, dl = z.split([site.x.numel(), multipliers.numel()])
        step = 1.0
        while step > 1e-14 and math.isfinite(slope):
            trial = program.site(site.x + step * dx)
            value = merit.value(trial, multipliers + step * dl)
            if value <= here + self.armijo * step * slope + rounding:
                return step, (trial, multipliers + step * dl)
            step /= 2
        return step, None


def _residual(system: System, z: Tensor, right: Tensor) -> float:
    return float((system.operator.matvec(z[None])[0] + right).norm())
