"""What an interior-point run does where no step is acceptable: reduce the violation alone, or leave the place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from precond.core import ProgramIteration, Site, Status
from precond.programs.jacobians import frobenius
from precond.programs.relaxation import around, relax
from precond.programs.restoration import restore
from precond.programs.standing import ScaledProgram, State
from precond.programs.violation import Stuck

FLAT, STUCK = 1e-8, 5
"""A violation is stationary where its gradient is this small beside it; so many steps from there are enough."""
ENOUGH, MORE = 0.9, 0.1
"""Share of the violation that may be left by a restoration, and its factor for one that follows another."""
ESCAPES = 5
"""Points with a violation that small steps do not reduce that a run may leave."""
INSIDE = 1e-4
"""Distance from their bounds, relative to these, at which slacks start anew."""

Outcome = tuple[dict[str, float], Status | None]


@dataclasses.dataclass(frozen=True)
class Recovery:
    """Ways back to points from which steps are acceptable.

    Attributes:
        scaled: The problem.
        lessen: Returns the next, smaller weight of the barrier.
        relaxed: Maps a weight of the barrier to the method that minimizes a violation as a program of its own;
            ``None`` within that method, which is not to call itself.
    """

    scaled: ScaledProgram
    lessen: Callable[[float], float]
    relaxed: Callable[[float], ProgramIteration] | None

    def infeasible(self, state: State) -> bool:
        """Whether the last steps all started where no small move reduces the violation."""
        c = state.site.constraints * self.scaled.scaling.rows
        size = float(c.norm())
        flat = False
        if size > self.scaled.tolerance:
            pulled = float(self.scaled.pull(state.site, c).norm())
            flat = pulled <= FLAT * frobenius(state.site.jacobian, self.scaled.scaling.rows) * size
        state.stuck = state.stuck + 1 if flat else 0
        return state.stuck > STUCK

    def restore(self, state: State, facts: dict[str, float], share: float = ENOUGH) -> Outcome:
        """Reduce the violation to a share of it that the filter accepts; fail where that cannot be done.

        Args:
            state: The run, which is changed.
            facts: What is known of the step so far.
            share: Of the violation, what may be left.

        Returns:
            What is known of the step, and why there can be no other.
        """
        scaled, barrier, tolerance = self.scaled, state.barrier, self.scaled.tolerance
        here = scaled.pair(state.site.loss, state.site.constraints, state.site.x, barrier)
        if here[0] <= 1e-2 * tolerance or self.relaxed is None:
            least = tolerance / 100
            if self.relaxed is None or not barrier.mu > least:
                return facts, Status.FAILED_LINE_SEARCH
            # rounding hides what this barrier problem has left to gain: go on to the next
            barrier.mu = max(least, self.lessen(barrier.mu))
            scaled.forget(state)
            return {**facts, "step": 0.0}, None
        state.filter.add(*here)
        share *= MORE**state.restored
        state.restored += 1

        def acceptable(site: Site) -> bool:
            pair = scaled.pair(site.loss, site.constraints, site.x, barrier)
            return pair[0] <= max(share * here[0], 1e-2 * tolerance) and state.filter.accepts(*pair)

        rows, lower, upper = scaled.scaling.rows, barrier.lower, barrier.upper
        ended = restore(scaled.program, state.site, rows, lower, upper, acceptable)
        if not ended.accepted:
            mu = max(barrier.mu, float((ended.site.constraints * rows).abs().max()))
            ended = relax(
                self.relaxed(mu), scaled.program, ended.site, rows, lower, upper, 1e-2 * tolerance, acceptable
            )
        scaled.start_from(state, ended.site, INSIDE)
        facts = {**facts, "restored": 1.0, "step": 0.0}
        if ended.accepted:
            return facts, None
        if float(ended.site.constraints.norm()) <= tolerance:
            scaled.forget(state)
            return facts, None
        return self.leave(state, facts, Status.FAILED_INFEASIBLE if ended.stationary else Status.FAILED_STAGNATION)

    def leave(self, state: State, facts: dict[str, float], otherwise: Status) -> Outcome:
        """Go on from a point with a smaller violation that small steps do not find, if there is one.

        Args:
            state: The run, which is changed.
            facts: What is known of the step so far.
            otherwise: Why the run fails where there is none.

        Returns:
            What is known of the step, and why there can be no other.
        """
        program, rows, barrier = self.scaled.program, self.scaled.scaling.rows, state.barrier
        found = None
        if state.escapes < ESCAPES:
            found = Stuck(program, state.site, rows, barrier.lower, barrier.upper).way_out()
            found = found or around(program, state.start, state.site, rows, barrier)
        if found is None:
            return facts, otherwise
        state.escapes, state.stuck, state.short = state.escapes + 1, 0, 0
        self.scaled.start_from(state, found, INSIDE)
        self.scaled.forget(state)
        return {**facts, "step": 0.0}, None
