"""What the harness does between two iterations of a solver: stop the clock, measure anew, record, decide."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import Budget, Work
from precond.race.results.records import Run
from precond.race.runners import Note
from precond.race.runners.clock import Clock
from precond.race.runners.curve import Curve

UNSOLVED = 1e9
"""Score of a run that did not meet the target, before its distance is added; more than any work."""

_EVERY = 200
_NOTES = 32


class Done(Exception):
    """Ends a rival's solver that can only be left by an exception."""


class Watch:
    """The harness's eye on one run of a solver.

    The metric is computed from the problem at the current iterate with the clock stopped: what the solver believes is
    never used. From iteration 200 on, one iterate in every ``iteration / 200`` is looked at.

    Args:
        measure: Maps an iterate to the metric.
        target: Value of the metric that counts as solved; the run ends there.
        budget: Horizon of the run.
        device: Where the solver works.
        note: Takes a few words on how far the run is.
        price: Maps counted work to one number, which tuning minimizes.
        column: Maps counted work to the ``gradients`` column of the curve.
    """

    def __init__(
        self,
        measure: Callable[[Tensor], float],
        target: float,
        budget: Budget,
        device: torch.device,
        note: Note,
        price: Callable[[Work], float],
        column: Callable[[Work], float],
    ) -> None:
        self.clock = Clock(device)
        self.curve = Curve(target)
        self.iterations = 0
        self._measure, self._target, self._budget, self._note = measure, target, budget, note
        self._price, self._column = price, column
        self._looks = 0
        self._work = Work()

    @property
    def solved(self) -> bool:
        """Whether the target has been met."""
        return self.curve.steps_to_target is not None

    def see(self, iteration: int, x: Callable[[], Tensor], work: Work, *, last: bool = False) -> bool:
        """Look at an iterate.

        Args:
            iteration: Iterations done.
            x: Returns the iterate; called only when it is looked at.
            work: Work counted so far.
            last: Look in any case.

        Returns:
            Whether the run is to stop: solved, out of budget, or not finite any more.
        """
        with self.clock.stopped() as seconds:
            self.iterations, self._work = max(iteration, self.iterations), work
            steps, limit = self._budget.steps, self._budget.seconds
            over = (steps is not None and iteration >= steps) or (limit is not None and seconds >= limit)
            if iteration == self.curve.last_step or (iteration % max(1, iteration // _EVERY) and not over and not last):
                return over
            metric = self._measure(x())
            self.curve.record(iteration, seconds, self._column(work), metric, self._price(work))
            if self._looks % _NOTES == 0:
                self._note(f"iteration {iteration}, {metric:.3g}")
            self._looks += 1
            return over or self.solved or not math.isfinite(metric)

    def fill_in(self, run: Run) -> None:
        """Write everything measured into ``run``."""
        curve = self.curve
        run.seconds, run.steps = self.clock.stop(), self.iterations
        run.final, run.best = curve.final, curve.best
        run.steps_to_target, run.seconds_to_target = curve.steps_to_target, curve.seconds_to_target
        run.work = self._work.counts()
        run.curve = dict(curve.columns())
        if curve.work_at_target is not None:
            run.score = curve.work_at_target
        elif curve.final is not None and math.isfinite(curve.final):
            run.score = UNSOLVED + 1e6 * math.log10(max(curve.final / self._target, 1.0))
