"""A primal-dual interior-point method with a filter line search."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Iterate, Program, ProgramIteration, Status
from precond.programs.barrier import Barrier
from precond.programs.filter import Filter
from precond.programs.filter_search import FilterSearch
from precond.programs.recovery import Recovery
from precond.programs.regularized import Regularizer
from precond.programs.scaling import Scaling
from precond.programs.standing import ScaledProgram, State
from precond.programs.systems import newton_system

SHRINK, SUPERLINEAR, ERROR = 0.2, 1.5, 10.0
"""How the barrier's weight falls: ``min(0.2 mu, mu^1.5)`` once the error is below ``10 mu``."""
SHORT, SHORTS, MUCH = 1e-2, 3, 0.1
"""After so many steps of at most this length with a violation that hardly falls, it is reduced to this share alone."""
RELAXED = 1e-8
"""Bounds are moved outwards by this much at most, relative to their size: a feasible set without interior gets one."""
WILD = 1e6
"""Multipliers above this, where the Jacobian has not full rank, are replaced by those that fit best."""


@final
@dataclasses.dataclass(frozen=True)
class InteriorPoint(ProgramIteration):
    """Newton's method on the conditions of optimality, made global by a filter and kept inside of bounds by a barrier.

    Without bounds the barrier is empty, and what remains is Newton's method for equality constraints. Systems are
    factorized, dense or sparse, with the inertia corrected, or solved by projected conjugate gradients; a step is
    accepted if it improves violation or objective against all points that were left behind, with second-order
    corrections; where none is, the violation alone is reduced.

    Attributes:
        mu: First weight of the barrier.
        tau: Share of the distance to a bound that a step may take, at least.
        nested: It reduces a violation within itself, and reduces none alone.
    """

    bounds: ClassVar[bool] = True
    mu: float = 0.1
    tau: float = 0.99
    nested: bool = False

    def iterate(self, program: Program, x0: Tensor, tolerance: float) -> Iterator[Iterate]:
        """Yield the iterates; facts: ``step``, ``mu``, ``shift``, ``restored`` (1 when the violation was reduced)."""
        most = tolerance / (10 * max(1, x0.numel()) ** 0.5)  # so that all bounds together stay within the tolerance
        lower = program.lower - (RELAXED * program.lower.abs().clamp(min=1)).clamp(max=most)
        upper = program.upper + (RELAXED * program.upper.abs().clamp(min=1)).clamp(max=most)
        barrier = Barrier.around(lower, upper, self.mu)
        site = program.site(barrier.inside(x0))
        scaled = ScaledProgram(program, Scaling.at(site), tolerance)
        relaxed = None if self.nested else functools.partial(InteriorPoint, tau=self.tau, nested=True)
        recovery = Recovery(scaled, _lessened, relaxed)
        state = State(site.x, site, scaled.multipliers(site, barrier), barrier, Filter(math.inf), Regularizer())
        scaled.forget(state)
        yield scaled.report(state, {})
        while True:
            least = tolerance / 100
            floor = least**2 * min(1.0, scaled.scaling.loss)  # distances and multipliers of the problem itself count
            while barrier.mu > floor and scaled.error(state, barrier.mu) <= ERROR * barrier.mu:
                # below `least` only one step at a time: distances and multipliers may both be far below 1
                last = barrier.mu <= least
                barrier.mu = max(floor if last else least, _lessened(barrier.mu))
                scaled.forget(state)
                if last:
                    break
            facts, failure = self._advance(scaled, recovery, state)
            yield scaled.report(state, facts, failure)
            if failure is not None:
                return

    def _advance(
        self, scaled: ScaledProgram, recovery: Recovery, state: State
    ) -> tuple[dict[str, float], Status | None]:
        """Take one step; return what it was like and why there can be no other."""
        program, scaling, site, barrier = scaled.program, scaled.scaling, state.site, state.barrier
        if recovery.infeasible(state):
            return recovery.leave(state, {}, Status.FAILED_INFEASIBLE)
        hessian = program.hessian(site, scaling.unscale(state.multipliers))
        gradient = site.gradient * scaling.loss + barrier.gradient(site.x)
        upper = gradient + scaled.pull(site, state.multipliers)
        c = site.constraints * scaling.rows
        system = newton_system(
            hessian, site.jacobian, barrier.curvature(site.x), scaling.rows, scaling.loss, -torch.cat([upper, c]),
            program.dense, state.patterns,
        )  # fmt: skip
        solver = state.regularizer.factorize(system)
        program.work.factorizations += state.regularizer.attempts
        program.work.inner += system.inner
        state.regularizer.attempts = 0
        if solver is None:
            # the barrier may be infinite at a bound
            known = torch.cat([site.gradient, c, hessian.matvec(site.x[None])[0]])
            return {}, Status.FAILED_STAGNATION if bool(torch.isfinite(known).all()) else Status.FAILED_NON_FINITE
        share = max(self.tau, 1 - barrier.mu) if barrier.mu else 1.0
        facts = {"shift": solver.shift, "mu": barrier.mu, "restored": 0.0}
        if state.short >= SHORTS:  # next to a singular Jacobian steps are long, and only tiny parts of them any good
            state.short = 0
            return recovery.restore(state, facts, MUCH)
        step = FilterSearch(scaled, state, solver, upper, gradient, share).run()
        if step is None:
            return recovery.restore(state, facts)
        state.restored = 0
        before, after = scaled.violation(site.constraints), scaled.violation(step.site.constraints)
        state.short = state.short + 1 if step.length <= SHORT and after > max(0.9 * before, scaled.tolerance) else 0
        steps = barrier.steps(site.x, step.d)
        state.multipliers = state.multipliers + step.length * step.multipliers
        state.site = step.site
        barrier.move(step.site.x, steps, share)
        if solver.delta and float(state.multipliers.abs().max()) > WILD:
            state.multipliers = scaled.multipliers(step.site, barrier)
        return {**facts, "step": step.length}, None


def _lessened(mu: float) -> float:
    """Return the weight of the next barrier problem."""
    return min(SHRINK * mu, mu**SUPERLINEAR)
