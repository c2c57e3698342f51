"""From runs to the table: means over seeds with intervals, and the order of the contestants."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import special

from precond.race.results.records import Interval, Run, Standing


def interval(values: Sequence[float | None], confidence: float = 0.95) -> Interval | None:
    """Return the mean with Student's t interval; bounds need two values, a mean needs one."""
    finite = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return None
    count = len(finite)
    mean = sum(finite) / count
    if count < 2:
        return Interval(mean, None, None, count)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in finite) / (count - 1))
    half = float(special.stdtrit(count - 1, 0.5 + confidence / 2)) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def standing(
    contestant: str, tuning: Sequence[Run], finals: Sequence[Run], title: str = "", space: dict[str, str] | None = None
) -> Standing:
    """Return one contestant's row from its runs; runs that have not ended are not counted."""
    tuned = [run for run in tuning if run.ended]
    ended = [run for run in finals if run.ended]
    complete = [run for run in ended if run.state == "complete"]
    solved = [run for run in complete if run.steps_to_target is not None]
    best = min((run for run in tuned if run.score is not None), key=lambda run: (run.score, run.slot), default=None)
    settings = finals[0].settings if finals else best.settings if best is not None else {}
    return Standing(
        contestant=contestant,
        title=title,
        settings=dict(settings),
        space=dict(space or {}),
        trials=len(tuned),
        failed_trials=sum(run.state == "failed" for run in tuned),
        seeds=len(ended),
        failed_seeds=sum(run.state == "failed" for run in ended),
        solved=len(solved),
        final=interval([run.final for run in complete]),
        steps_to_target=interval([run.steps_to_target for run in solved]),
        seconds_to_target=interval([run.seconds_to_target for run in solved]),
        optimizer_share=_mean([run.optimizer_share for run in complete]),
        state_bytes_per_parameter=_mean([run.state_bytes_per_parameter for run in complete]),
        work=_mean_work(complete),
    )


def ranked(standings: Sequence[Standing], *, by_time: bool) -> list[Standing]:
    """Return the rows, best first.

    Whoever finished a final run is before whoever did not. For solvers (``by_time``): more seeds solved first, then
    less time to the target, then the smaller metric. For training, where all get the same horizon: the smaller
    metric at its end, a failed seed counting behind every row without one.

    Args:
        standings: The rows.
        by_time: Whether reaching the target soon is what counts.

    Returns:
        The rows in the order of the table.
    """

    def key(row: Standing) -> tuple[float, ...]:
        final = row.final.mean if row.final is not None else math.inf
        seconds = row.seconds_to_target.mean if row.seconds_to_target is not None else math.inf
        missing = 1.0 if row.final is None else 0.0
        failed = row.failed_seeds / row.seeds if row.seeds else 1.0
        if by_time:
            solved = row.solved / row.seeds if row.seeds else 0.0
            return (missing, -solved, seconds, final)
        return (missing, failed, final, seconds)

    return sorted(standings, key=key)


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _mean_work(runs: Sequence[Run]) -> dict[str, float]:
    names = list(dict.fromkeys(name for run in runs for name in run.work))
    return {name: sum(run.work.get(name, 0) for run in runs) / len(runs) for name in names}
