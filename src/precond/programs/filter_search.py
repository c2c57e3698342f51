"""The line search of an interior-point step: violation or objective must improve, against every point left behind."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from precond.core import Site
from precond.programs.filter import Filter
from precond.programs.newton import Solver
from precond.programs.restoration import to_boundary
from precond.programs.standing import ScaledProgram, State

DELTA, S_VIOLATION, S_OBJECTIVE, ARMIJO = 1.0, 1.1, 2.3, 1e-4
CORRECTIONS, CORRECTED, SHORTEST = 4, 0.5, 0.05
CLOSE, FAST, SLOW = 1e-3, 0.1, 0.9
"""Residuals below which a full step may be judged by them: at once if it reduces them to a tenth, at last to 0.9."""
MOST_RISE = 5
"""Orders of magnitude, beyond its own, by which a step may raise the objective, however much less it violates."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of a length along a direction, and where it leads.

    Attributes:
        length: At most 1.
        d: The direction of the variables, ``[n]``.
        multipliers: That of the multipliers, ``[m]``.
        site: Where the step leads.
    """

    length: float
    d: Tensor
    multipliers: Tensor
    site: Site


class FilterSearch:
    """The search from one point along its Newton direction.

    Source: A. Waechter, L. T. Biegler, *On the implementation of an interior-point filter line-search algorithm*, 2006.

    Args:
        scaled: The problem.
        state: The run; its filter takes the point that is left.
        solver: The Newton system, for second-order corrections.
        upper: Gradient of the barrier Lagrangian, the first block of the right-hand side negated, ``[n]``.
        gradient: Gradient of the barrier objective, ``[n]``.
        share: Share of the distance to a bound that a step may take.
    """

    def __init__(
        self, scaled: ScaledProgram, state: State, solver: Solver, upper: Tensor, gradient: Tensor, share: float
    ) -> None:
        self.scaled, self.state, self.solver, self.upper, self.share = scaled, state, solver, upper, share
        site = state.site
        self.c = site.constraints * scaled.scaling.rows
        self.d, self.dl = self._direction(self.c)
        self.slope = float(gradient @ self.d)
        self.here = scaled.pair(site.loss, site.constraints, site.x, state.barrier)
        self.low = 1e-4 * max(1.0, state.filter.largest / 1e4)
        self.rounding = 10 * torch.finfo(site.x.dtype).eps * abs(self.here[1])

    def run(self) -> Step | None:
        """Return the accepted step; ``None`` where the filter accepts none."""
        x, d, barrier, program = self.state.site.x, self.d, self.state.barrier, self.scaled.program
        longest = length = to_boundary(x, d, barrier.lower, barrier.upper, self.share)
        if float((d.abs() / (1 + x.abs())).max() if d.numel() else 0.0) < 10 * torch.finfo(d.dtype).eps:
            return Step(length, d, self.dl, program.site(x + length * d))  # too short for anything to be compared
        shortest = self._shortest() * longest
        while length >= shortest and length > 1e-16:
            trial = x + length * d
            loss, constraints = program.values(trial)
            pair = self.scaled.pair(loss, constraints, trial, barrier)
            if self._acceptable(pair, length):
                return Step(length, d, self.dl, self._settle(pair, length, trial))
            if length == longest:
                near = self._by_residuals(longest, FAST)
                if near is not None:
                    return near
                corrected = self._correct(constraints, length, pair[0]) if pair[0] >= self.here[0] else None
                if corrected is not None:
                    return corrected
            length /= 2
        return self._by_residuals(longest, SLOW)

    def _direction(self, c: Tensor) -> tuple[Tensor, Tensor]:
        program = self.scaled.program
        d, dl = self.solver.solve(-torch.cat([self.upper, c])).split([program.variables, program.equations])
        return d, dl

    def _correct(self, constraints: Tensor, step: float, last: float) -> Step | None:
        """Try second-order corrections of the full step, each of which must halve the violation, ``last`` at first."""
        x, barrier, rows = self.state.site.x, self.state.barrier, self.scaled.scaling.rows
        target = step * self.c + constraints * rows
        for _ in range(CORRECTIONS):
            d, dl = self._direction(target)
            length = to_boundary(x, d, barrier.lower, barrier.upper, self.share)
            trial = x + length * d
            loss, constraints = self.scaled.program.values(trial)
            pair = self.scaled.pair(loss, constraints, trial, barrier)
            if self._acceptable(pair, step):
                return Step(length, d, dl, self._settle(pair, step, trial))
            if not pair[0] <= CORRECTED * last:
                return None
            last, target = pair[0], length * target + constraints * rows
        return None

    def _by_residuals(self, length: float, share: float) -> Step | None:
        """Accept the full step near a solution if it reduces the residuals of optimality to a share of themselves.

        Values say no more there: rounding hides what the objective gains, and constraints bend by more than that.
        """
        before = self.scaled.error(self.state, self.state.barrier.mu)
        if not before < CLOSE:
            return None
        trial = self.scaled.program.site(self.state.site.x + length * self.d)
        moved = dataclasses.replace(self.state, site=trial, multipliers=self.state.multipliers + length * self.dl)
        after = self.scaled.error(moved, self.state.barrier.mu)
        return Step(length, self.d, self.dl, trial) if after <= share * before else None

    def _acceptable(self, pair: tuple[float, float], length: float) -> bool:
        """Whether the filter accepts a point, and the point left does: by its objective where that is to decide."""
        if not (math.isfinite(pair[0]) and math.isfinite(pair[1])) or not self.state.filter.accepts(*pair):
            return False
        if pair[1] - self.here[1] > 10**MOST_RISE * max(10.0, abs(self.here[1])):
            return False
        if self.here[0] <= self.low and self._by_objective(length):
            return self._descends(pair, length)
        return self.state.filter.improves(self.here, pair[0], pair[1] - self.rounding)

    def _settle(self, pair: tuple[float, float], length: float, trial: Tensor) -> Site:
        """Leave the old point in the filter, unless the objective was what decided, and evaluate the new one."""
        if not (self._by_objective(length) and self._descends(pair, length)):
            self.state.filter.add(*self.here)
        return self.scaled.program.site(trial)

    def _by_objective(self, length: float) -> bool:
        return self.slope < 0 and length * (-self.slope) ** S_OBJECTIVE > DELTA * self.here[0] ** S_VIOLATION

    def _descends(self, pair: tuple[float, float], length: float) -> bool:
        return pair[1] <= self.here[1] + ARMIJO * length * self.slope + self.rounding

    def _shortest(self) -> float:
        """Return the share of the longest step below which nothing acceptable can be expected."""
        least, violation = Filter.GAMMA_VIOLATION, self.here[0]
        if self.slope < 0:
            least = min(least, Filter.GAMMA_OBJECTIVE * violation / -self.slope)
            if violation <= self.low:
                least = min(least, DELTA * violation**S_VIOLATION / (-self.slope) ** S_OBJECTIVE)
        return SHORTEST * least
