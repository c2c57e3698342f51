"""A primal-dual interior-point method with a filter line search."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Iterate, Program, ProgramIteration, Site, Status
from precond.programs.barrier import Barrier
from precond.programs.elastic import Elastic
from precond.programs.filter import Filter
from precond.programs.jacobians import frobenius
from precond.programs.multipliers import least_squares_multipliers
from precond.programs.newton import Solver
from precond.programs.regularized import Regularizer
from precond.programs.restoration import Restored, restore, to_boundary
from precond.programs.scaling import Scaling
from precond.programs.systems import newton_system
from precond.programs.violation import Stuck

SHRINK, SUPERLINEAR, ERROR = 0.2, 1.5, 10.0
"""How the barrier's weight falls: ``min(0.2 mu, mu^1.5)`` once the error is below ``10 mu``."""
DELTA, S_VIOLATION, S_OBJECTIVE, ARMIJO = 1.0, 1.1, 2.3, 1e-4
CORRECTIONS, CORRECTED, SHORTEST = 4, 0.99, 0.05
FLAT, STUCK = 1e-8, 5
"""A violation is stationary where its gradient is this small beside it; so many steps from there are enough."""
SHORT, SHORTS, MUCH = 1e-2, 3, 0.1
"""After so many steps of at most this length with a violation that hardly falls, it is reduced to this share alone."""
RELAXED = 1e-8
"""Bounds are moved outwards by this much at most, relative to their size: a feasible set without interior gets one."""
NEAR, FLAT_ELASTIC, RELAXATIONS = 1e-10, 1e-6, 300
"""Weight of staying near, relative size of a gradient that counts as none, and limit on iterations, of a relaxation."""
AROUND = (0.0, 0.3, 1.0)
"""Distances from the start, relative to its size, from which a violation that does not fall is reduced anew."""
ESCAPES = 5
"""Points with a violation that small steps do not reduce that a run may leave."""
INSIDE = 1e-4
"""Distance from their bounds, relative to these, at which slacks start anew."""
WILD = 1e6
"""Multipliers above this, where the Jacobian has not full rank, are replaced by those that fit best."""


@dataclasses.dataclass
class _State:
    """What changes in a run.

    Attributes:
        start: Where it started, ``[n]``.
        site: The point, unscaled.
        multipliers: Of the equations, scaled.
        barrier: Of the bounds.
        filter: Pairs that were left behind.
        regularizer: Remembers shifts.
        stuck: Consecutive steps from points where the violation is stationary.
        short: Consecutive short steps that hardly reduced a violation.
        escapes: Points with a stuck violation that were left.
    """

    start: Tensor
    site: Site
    multipliers: Tensor
    barrier: Barrier
    filter: Filter
    regularizer: Regularizer
    stuck: int = 0
    short: int = 0
    escapes: int = 0


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
        scaling = Scaling.at(site)
        run = _Run(program, scaling, self.tau, tolerance, self.nested)
        state = _State(site.x, site, run.multipliers(site, barrier), barrier, Filter(math.inf), Regularizer())
        run.forget(state)
        yield run.report(state, {})
        while True:
            least = tolerance / 100
            while state.barrier.mu > least**2 and run.error(state, state.barrier.mu) <= ERROR * state.barrier.mu:
                # below `least` only one step at a time: distances and multipliers may both be far below 1
                lower = min(SHRINK * state.barrier.mu, state.barrier.mu**SUPERLINEAR)
                last = state.barrier.mu <= least
                state.barrier.mu = max(least**2 if last else least, lower)
                run.forget(state)
                if last:
                    break
            facts, failure = run.advance(state)
            yield run.report(state, facts, failure)
            if failure is not None:
                return


@dataclasses.dataclass(frozen=True)
class _Run:
    """The steps of one run; everything here is scaled but the point itself.

    Attributes:
        program: The oracle.
        scaling: Factors of objective and constraints.
        tau: See `InteriorPoint`.
        tolerance: What the caller will ask for.
        nested: See `InteriorPoint`.
    """

    program: Program
    scaling: Scaling
    tau: float
    tolerance: float
    nested: bool

    def multipliers(self, site: Site, barrier: Barrier) -> Tensor:
        """Return least-squares multipliers, scaled."""
        gradient = site.gradient - (barrier.below - barrier.above) / self.scaling.loss
        return least_squares_multipliers(site, gradient) * self.scaling.loss / self.scaling.rows

    def report(self, state: _State, facts: dict[str, float], failure: Status | None = None) -> Iterate:
        """Return the iterate in the units of the problem."""
        z = (state.barrier.below - state.barrier.above) / self.scaling.loss
        return Iterate(state.site, self.scaling.unscale(state.multipliers), z, facts, failure)

    def forget(self, state: _State) -> None:
        """Start the filter anew, as for a new barrier problem."""
        state.filter = Filter(1e4 * max(1.0, self.violation(state.site.constraints)))

    def violation(self, constraints: Tensor) -> float:
        """Return ``||c||_1`` of the scaled constraints."""
        return float((constraints * self.scaling.rows).abs().sum())

    def objective(self, loss: Tensor, x: Tensor, barrier: Barrier) -> float:
        """Return the scaled objective with the barrier."""
        return float(loss * self.scaling.loss + barrier.value(x))

    def error(self, state: _State, mu: float) -> float:
        """Return the largest residual of the conditions of the barrier problem."""
        dual = state.site.gradient * self.scaling.loss + self._pull(state.site, state.multipliers)
        dual = dual - state.barrier.below + state.barrier.above
        primal = state.site.constraints * self.scaling.rows
        parts = [float(v.abs().max()) for v in (dual, primal) if v.numel()]
        worst = max([*parts, state.barrier.gap(state.site.x, mu)], default=0.0)
        return worst if math.isfinite(worst) else math.inf

    def advance(self, state: _State) -> tuple[dict[str, float], Status | None]:
        """Take one step; return what it was like and why there can be no other."""
        site, barrier = state.site, state.barrier
        x = site.x
        gradient = site.gradient * self.scaling.loss + barrier.gradient(x)
        if self._infeasible(state):
            return self._leave(state, {}, Status.FAILED_INFEASIBLE)
        hessian = self.program.hessian(site, self.scaling.unscale(state.multipliers))
        upper = gradient + self._pull(site, state.multipliers)
        c = site.constraints * self.scaling.rows
        system = newton_system(
            hessian, site.jacobian, barrier.curvature(x), self.scaling.rows, self.scaling.loss, -torch.cat([upper, c]),
            self.program.dense,
        )  # fmt: skip
        solver = state.regularizer.factorize(system)
        self.program.work.factorizations += state.regularizer.attempts
        self.program.work.inner += system.inner
        state.regularizer.attempts = 0
        if solver is None:
            known = torch.cat([site.gradient, c, hessian.matvec(x[None])[0]])  # the barrier may be infinite at a bound
            return {}, Status.FAILED_STAGNATION if bool(torch.isfinite(known).all()) else Status.FAILED_NON_FINITE
        d, dl = self._split(solver.solve(-torch.cat([upper, c])))
        share = max(self.tau, 1 - barrier.mu) if barrier.mu else 1.0
        facts = {"shift": solver.shift, "mu": barrier.mu, "restored": 0.0}
        if state.short >= SHORTS:  # next to a singular Jacobian steps are long, and only tiny parts of them any good
            state.short = 0
            return self._restore(state, facts, MUCH)
        found = self._search(state, solver, upper, c, gradient, d, dl, share)
        if found is None:
            return self._restore(state, facts)
        step, d, dl, trial = found
        before, after = self.violation(site.constraints), self.violation(trial.constraints)
        state.short = state.short + 1 if step <= SHORT and after > max(0.9 * before, self.tolerance) else 0
        steps = barrier.steps(x, d)
        state.multipliers = state.multipliers + step * dl
        state.site = trial
        barrier.move(trial.x, steps, share)
        if solver.delta and float(state.multipliers.abs().max()) > WILD:
            state.multipliers = self.multipliers(trial, barrier)
        return {**facts, "step": step}, None

    def _infeasible(self, state: _State) -> bool:
        """Whether the last steps all started where no small move reduces the violation."""
        c = state.site.constraints * self.scaling.rows
        size = float(c.norm())
        flat = False
        if size > self.tolerance:
            pulled = float(self._pull(state.site, c).norm())
            flat = pulled <= FLAT * frobenius(state.site.jacobian, self.scaling.rows) * size
        state.stuck = state.stuck + 1 if flat else 0
        return state.stuck > STUCK

    def _search(
        self, state: _State, solver: Solver, upper: Tensor, c: Tensor, gradient: Tensor, d: Tensor, dl: Tensor,
        share: float,
    ) -> tuple[float, Tensor, Tensor, Site] | None:  # fmt: skip
        """Return step, direction, its multipliers and the accepted point; ``None`` where the filter accepts none."""
        site, barrier = state.site, state.barrier
        slope, here = float(gradient @ d), self._pair(site.loss, site.constraints, site.x, barrier)
        violation = here[0]
        low = 1e-4 * max(1.0, state.filter.largest / 1e4)
        longest = step = to_boundary(site.x, d, barrier.lower, barrier.upper, share)
        shortest = self._shortest(slope, violation, low)
        if float((d.abs() / (1 + site.x.abs())).max() if d.numel() else 0.0) < 10 * torch.finfo(d.dtype).eps:
            return step, d, dl, self.program.site(site.x + step * d)  # too short for anything to be compared
        while step >= shortest * longest and step > 1e-16:
            trial = site.x + step * d
            loss, constraints = self.program.values(trial)
            pair = self._pair(loss, constraints, trial, barrier)
            if self._acceptable(state, here, pair, slope, step, low):
                return step, d, dl, self._settle(state, here, pair, slope, step, low, trial)
            if step == longest and pair[0] >= violation:
                corrected = self._correct(state, solver, upper, c, here, constraints, slope, step, low, share)
                if corrected is not None:
                    return corrected
            step /= 2
        return self._by_residuals(state, d, dl, longest)

    def _correct(
        self, state: _State, solver: Solver, upper: Tensor, c: Tensor, here: tuple[float, float], constraints: Tensor,
        slope: float, step: float, low: float, share: float,
    ) -> tuple[float, Tensor, Tensor, Site] | None:  # fmt: skip
        """Try second-order corrections of the full step."""
        site, barrier = state.site, state.barrier
        target, last = step * c + constraints * self.scaling.rows, math.inf
        for _ in range(CORRECTIONS):
            d, dl = self._split(solver.solve(-torch.cat([upper, target])))
            length = to_boundary(site.x, d, barrier.lower, barrier.upper, share)
            trial = site.x + length * d
            loss, constraints = self.program.values(trial)
            pair = self._pair(loss, constraints, trial, barrier)
            if self._acceptable(state, here, pair, slope, step, low):
                return length, d, dl, self._settle(state, here, pair, slope, step, low, trial)
            if not pair[0] <= CORRECTED * min(last, here[0] if last == math.inf else last):
                return None
            last, target = pair[0], length * target + constraints * self.scaling.rows
        return None

    def _by_residuals(
        self, state: _State, d: Tensor, dl: Tensor, step: float
    ) -> tuple[float, Tensor, Tensor, Site] | None:
        """Accept the full step if it reduces the residuals of optimality, near a solution where values say no more."""
        before = self.error(state, state.barrier.mu)
        trial = self.program.site(state.site.x + step * d)
        after = self.error(dataclasses.replace(state, site=trial, multipliers=state.multipliers + step * dl),
                           state.barrier.mu)  # fmt: skip
        return (step, d, dl, trial) if after <= 0.9 * before and before < 1e-3 else None

    def _acceptable(
        self, state: _State, here: tuple[float, float], pair: tuple[float, float], slope: float, step: float, low: float
    ) -> bool:
        rounding = 10 * torch.finfo(state.site.x.dtype).eps * abs(here[1])
        if not (math.isfinite(pair[0]) and math.isfinite(pair[1])) or not state.filter.accepts(*pair):
            return False
        if here[0] <= low and self._by_objective(here, slope, step):
            return pair[1] <= here[1] + ARMIJO * step * slope + rounding
        return state.filter.improves(here, pair[0], pair[1] - rounding)

    def _settle(
        self, state: _State, here: tuple[float, float], pair: tuple[float, float], slope: float, step: float,
        low: float, trial: Tensor,
    ) -> Site:  # fmt: skip
        """Leave the old point in the filter, unless the objective was what decided, and evaluate the new one."""
        rounding = 10 * torch.finfo(trial.dtype).eps * abs(here[1])
        decided = self._by_objective(here, slope, step) and pair[1] <= here[1] + ARMIJO * step * slope + rounding
        if not decided:
            state.filter.add(*here)
        return self.program.site(trial)

    @staticmethod
    def _by_objective(here: tuple[float, float], slope: float, step: float) -> bool:
        return slope < 0 and step * (-slope) ** S_OBJECTIVE > DELTA * here[0] ** S_VIOLATION

    @staticmethod
    def _shortest(slope: float, violation: float, low: float) -> float:
        """Return the step below which nothing acceptable can be expected."""
        least = Filter.GAMMA_VIOLATION
        if slope < 0:
            least = min(least, Filter.GAMMA_OBJECTIVE * violation / -slope)
            if violation <= low:
                least = min(least, DELTA * violation**S_VIOLATION / (-slope) ** S_OBJECTIVE)
        return SHORTEST * least

    def _restore(
        self, state: _State, facts: dict[str, float], share: float = 0.9
    ) -> tuple[dict[str, float], Status | None]:
        """Reduce the violation to a share of it that the filter accepts; fail where that cannot be done."""
        here = self._pair(state.site.loss, state.site.constraints, state.site.x, state.barrier)
        if here[0] <= 1e-2 * self.tolerance or self.nested:
            least = self.tolerance / 100
            if self.nested or not state.barrier.mu > least:
                return facts, Status.FAILED_LINE_SEARCH
            # rounding hides what this barrier problem has left to gain: go on to the next
            state.barrier.mu = max(least, min(SHRINK * state.barrier.mu, state.barrier.mu**SUPERLINEAR))
            self.forget(state)
            return {**facts, "step": 0.0}, None
        state.filter.add(*here)

        def acceptable(site: Site) -> bool:
            pair = self._pair(site.loss, site.constraints, site.x, state.barrier)
            return pair[0] <= share * here[0] and state.filter.accepts(*pair)

        lower, upper = state.barrier.lower, state.barrier.upper
        ended = restore(self.program, state.site, self.scaling.rows, lower, upper, acceptable)
        if not ended.accepted:
            ended = self._relax(state, ended.site, acceptable)
        self._start_from(state, ended.site)
        facts = {**facts, "restored": 1.0, "step": 0.0}
        if ended.accepted:
            return facts, None
        left = float(ended.site.constraints.norm())
        if left <= self.tolerance:
            self.forget(state)
            return facts, None
        return self._leave(state, facts, Status.FAILED_INFEASIBLE if ended.stationary else Status.FAILED_STAGNATION)

    def _relax(self, state: _State, site: Site, acceptable: Callable[[Site], bool]) -> Restored:
        """Reduce the violation by this method itself until the point is acceptable."""
        barrier, rows = state.barrier, self.scaling.rows
        elastic = Elastic(
            self.program, rows, barrier.lower, barrier.upper, site.x, NEAR / site.x.abs().clamp(min=1).square()
        )
        mu = max(barrier.mu, float((site.constraints * rows).abs().max()))
        inner = InteriorPoint(mu, self.tau, nested=True)
        flat, last = False, site
        for count, iterate in enumerate(inner.iterate(elastic, elastic.start(site), 1e-2 * self.tolerance)):
            before, last = last, elastic.inner(iterate.site)
            size = float((last.constraints * rows).norm())
            if not size > 1e-2 * self.tolerance or acceptable(last):
                return Restored(last, False, acceptable(last))
            pull = self._pull(last, last.constraints * rows)
            if iterate.bound_multipliers is not None:
                pull = pull - iterate.bound_multipliers[: self.program.variables]
            flat = float(pull.norm()) <= FLAT_ELASTIC * size and iterate.facts.get("mu", mu) <= FLAT_ELASTIC * size
            still = count > 0 and torch.equal(before.x, last.x)
            if flat or still or iterate.failure is not None or count >= RELAXATIONS:
                break
        return Restored(last, flat, False)

    def _leave(
        self, state: _State, facts: dict[str, float], otherwise: Status
    ) -> tuple[dict[str, float], Status | None]:
        """Go on from a point with a smaller violation that small steps do not find, if there is one."""
        stuck = Stuck(self.program, state.site, self.scaling.rows, state.barrier.lower, state.barrier.upper)
        found = stuck.way_out() or self._elsewhere(state) if state.escapes < ESCAPES else None
        if found is None:
            return facts, otherwise
        state.escapes, state.stuck, state.short = state.escapes + 1, 0, 0
        self._start_from(state, found)
        self.forget(state)
        return {**facts, "step": 0.0}, None

    def _elsewhere(self, state: _State) -> Site | None:
        """Reduce the violation from points around the start; return one where it is a tenth of what it is here."""
        here, barrier = self.violation(state.site.constraints), state.barrier
        generator = torch.Generator().manual_seed(0)
        for size in AROUND:
            draw = torch.randn(state.start.numel(), generator=generator, dtype=torch.float64).to(state.start)
            site = self.program.site(barrier.inside(state.start + size * (1 + state.start.abs()) * draw))
            ended = restore(
                self.program, site, self.scaling.rows, barrier.lower, barrier.upper,
                lambda site: self.violation(site.constraints) <= MUCH * here,
            )  # fmt: skip
            if ended.accepted and bool(torch.isfinite(ended.site.gradient).all()):
                return ended.site
        return None

    def _start_from(self, state: _State, site: Site) -> None:
        """Take a point that no Newton step led to, with slacks and multipliers that fit it."""
        state.site = site = self._with_slacks(site, state.barrier)
        state.barrier.reset(site.x)
        state.multipliers = self.multipliers(site, state.barrier)

    def _with_slacks(self, site: Site, barrier: Barrier) -> Site:
        """Return the point with the slacks that fit it best inside of their bounds, if the violation falls by it."""
        if self.program.slacks is None:
            return site
        x, _ = self.program.fitted(site.x, site.constraints)
        x = barrier.inside(x, INSIDE)
        n = x.numel() - len(self.program.slacks)
        x = torch.cat([site.x[:n], x[n:]])
        constraints = site.constraints.index_add(0, self.program.slacks, site.x[n:] - x[n:])
        if not self.violation(constraints) < self.violation(site.constraints):
            return site
        return dataclasses.replace(site, x=x, constraints=constraints)

    def _pair(self, loss: Tensor, constraints: Tensor, x: Tensor, barrier: Barrier) -> tuple[float, float]:
        return self.violation(constraints), self.objective(loss, x, barrier)

    def _pull(self, site: Site, multipliers: Tensor) -> Tensor:
        return site.jacobian.rmatvec((multipliers * self.scaling.rows)[None])[0]

    def _split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        d, dl = z.split([self.program.variables, self.program.equations])
        return d, dl
