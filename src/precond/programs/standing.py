"""Where an interior-point run stands, and what its scaled problem measures there."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from precond.core import Iterate, Program, Site, Status
from precond.math.sparse.kkt_pattern import Patterns
from precond.programs.barrier import Barrier
from precond.programs.filter import Filter
from precond.programs.multipliers import least_squares_multipliers
from precond.programs.regularized import Regularizer
from precond.programs.scaling import Scaling


@dataclasses.dataclass
class State:
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
        restored: Consecutive steps for which none was acceptable, and the violation was reduced alone.
        escapes: Points with a stuck violation that were left.
        patterns: Of sparse Newton systems.
    """

    start: Tensor
    site: Site
    multipliers: Tensor
    barrier: Barrier
    filter: Filter
    regularizer: Regularizer
    stuck: int = 0
    short: int = 0
    restored: int = 0
    escapes: int = 0
    patterns: Patterns = dataclasses.field(default_factory=Patterns)


@dataclasses.dataclass(frozen=True)
class ScaledProgram:
    """A program seen through its scaling: everything here is scaled but the point itself.

    Attributes:
        program: The oracle.
        scaling: Factors of objective and constraints.
        tolerance: What the caller will ask for.
    """

    program: Program
    scaling: Scaling
    tolerance: float

    def multipliers(self, site: Site, barrier: Barrier) -> Tensor:
        """Return least-squares multipliers, scaled."""
        gradient = site.gradient - (barrier.below - barrier.above) / self.scaling.loss
        return least_squares_multipliers(site, gradient) * self.scaling.loss / self.scaling.rows

    def report(self, state: State, facts: dict[str, float], failure: Status | None = None) -> Iterate:
        """Return the iterate in the units of the problem."""
        z = (state.barrier.below - state.barrier.above) / self.scaling.loss
        return Iterate(state.site, self.scaling.unscale(state.multipliers), z, facts, failure)

    def forget(self, state: State) -> None:
        """Start the filter anew, as for a new barrier problem."""
        state.filter = Filter(1e4 * max(1.0, self.violation(state.site.constraints)))

    def violation(self, constraints: Tensor) -> float:
        """Return ``||c||_1`` of the scaled constraints."""
        return float((constraints * self.scaling.rows).abs().sum())

    def objective(self, loss: Tensor, x: Tensor, barrier: Barrier) -> float:
        """Return the scaled objective with the barrier."""
        return float(loss * self.scaling.loss + barrier.value(x))

    def pair(self, loss: Tensor, constraints: Tensor, x: Tensor, barrier: Barrier) -> tuple[float, float]:
        """Return violation and objective, which a filter compares."""
        return self.violation(constraints), self.objective(loss, x, barrier)

    def pull(self, site: Site, multipliers: Tensor) -> Tensor:
        """Return ``J' lambda`` of the scaled constraints, ``[n]``."""
        return site.jacobian.rmatvec((multipliers * self.scaling.rows)[None])[0]

    def error(self, state: State, mu: float) -> float:
        """Return the largest residual of the conditions of the barrier problem."""
        dual = state.site.gradient * self.scaling.loss + self.pull(state.site, state.multipliers)
        dual = dual - state.barrier.below + state.barrier.above
        primal = state.site.constraints * self.scaling.rows
        parts = [float(v.abs().max()) for v in (dual, primal) if v.numel()]
        worst = max([*parts, state.barrier.gap(state.site.x, mu)], default=0.0)
        return worst if math.isfinite(worst) else math.inf

    def start_from(self, state: State, site: Site, inside: float) -> None:
        """Take a point that no Newton step led to, with slacks and multipliers that fit it.

        Args:
            state: The run, which is changed.
            site: The point.
            inside: Distance from their bounds, relative to these, at which slacks start anew.
        """
        state.site = site = self._with_slacks(site, state.barrier, inside)
        state.barrier.reset(site.x)
        state.multipliers = self.multipliers(site, state.barrier)

    def _with_slacks(self, site: Site, barrier: Barrier, inside: float) -> Site:
        """Return the point with the slacks that fit it best inside of their bounds, if the violation falls by it."""
        if self.program.slacks is None:
            return site
        x, _ = self.program.fitted(site.x, site.constraints)
        x = barrier.inside(x, inside)
        n = x.numel() - len(self.program.slacks)
        x = torch.cat([site.x[:n], x[n:]])
        constraints = site.constraints.index_add(0, self.program.slacks, site.x[n:] - x[n:])
        if not self.violation(constraints) < self.violation(site.constraints):
            return site
        return dataclasses.replace(site, x=x, constraints=constraints)
