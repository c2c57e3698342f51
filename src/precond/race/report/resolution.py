"""How closely a race knows when a target was met: the harness looks now and then, and sees it met only then.

A run that was looked at every 15 steps and seen at its target at step 165 met it somewhere in (150, 165]. The step at
which it is seen is thus uncertain by half of those 15 steps to either side, whatever the seeds say, and two contestants
that are not a whole spacing apart cannot be told apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from precond.race.report.numbers import finite
from precond.race.results.records import Interval, ProblemResult, Run, Standing

_LONG = 120
"""From so many points on, `precond.race.runners.curve.Curve` may have dropped some."""


@dataclasses.dataclass(frozen=True)
class Reach:
    """When a contestant reached the target, in steps or in seconds.

    Attributes:
        seen: Mean and interval over the seeds of when the target was seen met, as in the standings.
        spacing: Largest distance from the look that saw it to the look before; 0 when every step was looked at.
    """

    seen: Interval
    spacing: float = 0.0

    @property
    def shown(self) -> Interval:
        """The interval with half the spacing added at either end; without bounds when there is one seed only."""
        low, high = finite(self.seen.low), finite(self.seen.high)
        if low is None or high is None:
            return Interval(self.seen.mean, None, None, self.seen.count)
        half = self.spacing / 2
        return Interval(self.seen.mean, low - half, high + half, self.seen.count)

    def before(self, other: Reach) -> bool:
        """Whether this one reached the target first, beyond chance in the seeds and beyond the spacing of looks."""
        high, low = finite(self.seen.high), finite(other.seen.low)
        return high is not None and low is not None and low - high > max(self.spacing, other.spacing)


def reach(problem: ProblemResult, row: Standing, axis: str = "step") -> Reach | None:
    """Return when a contestant reached the target, or ``None`` when no final run did.

    Args:
        problem: The problem, with the runs.
        row: The contestant's row.
        axis: ``"step"`` or ``"seconds"``.

    Returns:
        What the standings say, with the spacing of the looks around it.
    """
    seen = row.steps_to_target if axis == "step" else row.seconds_to_target
    if not row.solved or seen is None or finite(seen.mean) is None:
        return None
    gaps = [spacing(run, axis) for run in _met(problem, [row.contestant])]
    return Reach(seen, max(gaps, default=0.0))


def spacing(run: Run, axis: str = "step") -> float:
    """Return how long before the target was seen met the metric had last been looked at; 0 when one step before.

    A long curve keeps only some of the looks, so that this is a bound from above.
    """
    steps = [finite(value) for value in run.curve.get("step", [])]
    hit = finite(run.steps_to_target)
    earlier = [at for at, step in enumerate(steps) if hit is not None and step is not None and step < hit]
    if hit is None or not earlier:
        return 0.0
    last = earlier[-1]
    gap = hit - (steps[last] or 0.0)
    if gap <= 1:
        return 0.0
    if axis == "step":
        return gap
    column = run.curve.get(axis, [])
    end, start = finite(run.seconds_to_target), finite(column[last]) if last < len(column) else None
    return max(end - start, 0.0) if end is not None and start is not None else 0.0


def spacings(problem: ProblemResult) -> tuple[float, float] | None:
    """Return the smallest and the largest spacing in steps, or ``None`` when no final run met the target."""
    gaps = [spacing(run) for run in _met(problem, [row.contestant for row in problem.standings])]
    return (min(gaps), max(gaps)) if gaps else None


def looks(problem: ProblemResult) -> str:
    """Return how often the metric was looked at before the target was seen met, in words.

    Args:
        problem: The problem, with the runs.

    Returns:
        Such as ``"measured every 15 steps"``; ``"recorded ..."`` when there may have been looks that a long curve did
        not keep; empty when every step was looked at.
    """
    found = spacings(problem)
    if found is None or found[1] <= 1:
        return ""
    low, high = found
    names = [row.contestant for row in problem.standings]
    kept = any(len(run.curve.get("step", [])) >= _LONG for run in _met(problem, names))
    often = f"{high:,.0f}" if low == high else f"{max(low, 1):,.0f} to {high:,.0f}"
    return f"{'recorded' if kept else 'measured'} every {often} steps"


def _met(problem: ProblemResult, names: Sequence[str]) -> list[Run]:
    return [
        run
        for run in problem.runs
        if run.stage == "final"
        and run.state == "complete"
        and run.contestant in names
        and finite(run.steps_to_target) is not None
    ]
