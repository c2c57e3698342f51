"""Where the steps of a merit function stay short: the violation is reduced alone, and the merit starts anew."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from precond.core import Program, Site
from precond.programs.restoration import restore
from precond.programs.violation import Stuck

SHORT, SHORTS = 5e-2, 3
"""After so many steps in a row of at most this length a run starts anew."""
SHARE = 0.1
"""Share of the violation that is to be left then."""
MOST = 10
"""How often a run may start anew; from then on its penalties only ever grow, as convergence requires."""
WILD = 1e6
"""Multipliers above this come from dependent constraints."""


@dataclasses.dataclass
class Restarts:
    """Tells when a run is to start anew, and where.

    Next to points where the Jacobian has not full rank Newton steps are long, and only tiny parts of them descend;
    penalties that were raised there make the merit a narrow valley ever after.

    Attributes:
        tolerance: A violation that is as good as none.
        short: Short steps in a row.
        count: How often the run has started anew.
        stuck: A point where the violation is stationary, and which nothing leads away from, if one was seen.
    """

    tolerance: float
    short: int = 0
    count: int = 0
    stuck: Site | None = None

    def due(self, step: float | None) -> bool:
        """Note the length of a step, ``None`` where there was none; return whether the run is to start anew."""
        self.short = self.short + 1 if step is not None and step <= SHORT else 0
        return step is None or self.short >= SHORTS

    def wild(self, multipliers: Tensor) -> bool:
        """Note multipliers at a point where constraints are dependent; return whether others are to be fitted there."""
        wild = self.count < MOST and multipliers.numel() > 0 and float(multipliers.abs().max()) > WILD
        self.count += wild
        return wild

    def point(self, program: Program, site: Site) -> Site | None:
        """Return where to start anew: with a tenth of the violation where there is one that can be reduced.

        ``None`` where it cannot, where there is none, and after so many.
        """
        self.short, self.count = 0, self.count + 1
        if self.count > MOST:
            return None
        rows = torch.ones_like(site.constraints)
        here = float(site.constraints.norm())
        if not here > self.tolerance:
            return None
        goal = max(SHARE * here, self.tolerance / 10)
        ended = restore(
            program, site, rows, program.lower, program.upper, lambda point: float(point.constraints.norm()) <= goal
        )
        if ended.accepted or not ended.stationary:
            return ended.site
        found = Stuck(program, ended.site, rows, program.lower, program.upper).way_out()
        self.stuck = ended.site if found is None else None
        return found
