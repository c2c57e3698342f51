"""The ranking of one problem as a small chart of bars and intervals, in plain HTML: it needs no script."""

from __future__ import annotations

import dataclasses
import math

from precond.race.report.markup import escape, swatch
from precond.race.report.numbers import finite, interval
from precond.race.report.palette import Palette
from precond.race.report.resolution import looks, reach
from precond.race.report.verdict import ranking, verdict
from precond.race.results.records import Interval, ProblemResult, Standing

_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    log: bool
    from_zero: bool

    def percent(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = (math.log(max(number, 1e-300)) for number in (value, low, high))
        return 100 * min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 50.0


def ranking_chart(problem: ProblemResult, palette: Palette) -> str:
    """Return the ranking by what the verdict compares: steps to the target, or the metric at the end."""
    rows = ranking(problem)
    steps = verdict(problem).measure == "steps_to_target"
    values = [_measure(problem, row, steps) for row in rows]
    scale = _scale([value for value in values if value is not None], from_zero=steps)
    if scale is None:
        return ""
    unit = "steps" if steps else problem.unit
    lines = [_row(row, value, scale, palette, unit, steps) for row, value in zip(rows, values, strict=True)]
    title = "Steps to the target" if steps else f"{problem.metric[:1].upper()}{problem.metric[1:]} at the end"
    seeded = any(value is not None and finite(value.low) is not None for value in values)
    note = " Dot: mean over seeds; dark bar: its 95 % interval." if seeded else " One seed: no interval."
    if steps and seeded and (often := looks(problem)):
        note = f"{note[:-1]}, widened by half a spacing ({often})."
    text = f"<h3>{escape(title)}</h3><p class='note'>Shorter is better.{note}</p>" if steps else (
        f"<h3>{escape(title)}</h3><p class='note'>Further left is better{', logarithmic scale' if scale.log else ''}."
        f"{note}</p>"
    )  # fmt: skip
    shown = f'<div class="ranking" role="list">{"".join(lines[:_SHOWN])}</div>'
    if len(lines) > _SHOWN:
        rest = f'<div class="ranking" role="list">{"".join(lines[_SHOWN:])}</div>'
        shown += f"<details><summary>{len(lines) - _SHOWN} more</summary>{rest}</details>"
    return text + shown


def _measure(problem: ProblemResult, row: Standing, steps: bool) -> Interval | None:
    if steps:
        reached = reach(problem, row)
        return None if reached is None else reached.shown
    return None if row.final is None or finite(row.final.mean) is None else row.final


def _scale(values: list[Interval], *, from_zero: bool) -> _Scale | None:
    if not values:
        return None
    ends = [end for value in values for end in map(finite, (value.mean, value.low, value.high)) if end is not None]
    means = [value.mean for value in values]
    if from_zero:
        return _Scale(0.0, max(*ends, 1.0) * 1.04, log=False, from_zero=True)
    if min(means) > 0 and max(means) > 30 * min(means):
        return _Scale(min(means) / 1.5, max(means) * 1.5, log=True, from_zero=False)
    room = 0.06 * (max(ends) - min(ends)) or 1.0
    return _Scale(min(ends) - room, max(ends) + room, log=False, from_zero=False)


def _row(row: Standing, value: Interval | None, scale: _Scale, palette: Palette, unit: str, steps: bool) -> str:
    colour = palette.colour(row.contestant)
    name = escape(row.contestant)
    if value is None:
        if not row.seeds:
            why = "no final run"
        elif row.failed_seeds >= row.seeds:
            why = "every run failed"
        else:
            why = "target not met" if steps else "no finite value"
        track, text = f'<span class="none">{why}</span>', ""
    else:
        at = scale.percent(value.mean)
        track = f'<span class="bar" style="width:{at:.2f}%"></span>' if scale.from_zero else ""
        low, high = finite(value.low), finite(value.high)
        if low is not None and high is not None:
            left, right = scale.percent(low), scale.percent(high)
            track += f'<span class="range" style="left:{left:.2f}%;width:{right - left:.2f}%"></span>'
        track += f'<span class="dot" style="left:{at:.2f}%"></span>'
        text = escape(interval(value, unit))
        if steps and row.solved < row.seeds:
            text += f"<small>in {row.solved} of {row.seeds} runs</small>"
    return (
        f'<span class="name" role="listitem" title="{name}">{swatch(colour, palette.dash(row.contestant))}{name}</span>'
        f'<span class="track" style="--c:var(--c{colour})" aria-hidden="true">{track}</span>'
        f'<span class="value">{text}</span>'
    )
