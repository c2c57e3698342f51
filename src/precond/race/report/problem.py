"""The section of one problem: curves, the table of standings, failures, who could not race."""

from __future__ import annotations

import re

from precond.race.report import charts
from precond.race.report.axes import available_axes, axis_title, log_metric, metric_title
from precond.race.report.contestant import contestants, reason_cell
from precond.race.report.markup import (
    Cell,
    Column,
    chips,
    escape,
    number_cell,
    settings_text,
    swatch,
    table,
    text_cell,
    toggle,
)
from precond.race.report.numbers import NOTHING, interval, plain, share
from precond.race.report.palette import Palette
from precond.race.report.papers import Papers
from precond.race.report.plotly import Figures
from precond.race.report.ranking import ranking_chart
from precond.race.report.resolution import Reach, looks, reach
from precond.race.report.verdict import verdict
from precond.race.results.records import Interval, ProblemResult

_AXIS_NAMES = {"step": "steps", "seconds": "seconds", "gradients": "evaluations"}
_SHOWN = 10


def problem(entry: ProblemResult, at: int, palette: Palette, figures: Figures, papers: Papers, *, lead: bool) -> str:
    """Return everything on one problem.

    Args:
        entry: The problem with its runs.
        at: Its place in the race, which names it in the page.
        palette: Colours of the contestants.
        figures: Filled with the figures that the page draws.
        papers: Papers of the contestants by name, as far as they are known.
        lead: Whether to repeat the verdict (it is the title of the page when there is one problem only).

    Returns:
        The sections as HTML.
    """
    outcome = verdict(entry)
    text = f'<section id="p{at}"><h2>{escape(entry.name)}</h2><p>{escape(entry.description)}</p>'
    text += chips(
        [
            ("kind", entry.kind),
            ("metric", metric_title(entry)),
            ("target", plain(entry.target)),
            ("horizon of a run", re.sub(r"(?<=\d)(?=steps)", " ", entry.budget)),
            looks(entry).partition(" ")[::2],
            ("contestants", str(len(entry.standings))),
        ]
    )
    if lead:
        text += f'<p class="lead">{escape(outcome.headline)}</p>'
        text += "".join(f"<p>{escape(remark)}</p>" for remark in outcome.remarks)
    text += ranking_chart(entry, palette) + _curves(entry, at, palette, figures) + _standings(entry, palette)
    text += contestants(entry, at, palette, figures, papers) + _skipped(entry) + _failures(entry)
    return text + "</section>"


def _curves(entry: ProblemResult, at: int, palette: Palette, figures: Figures) -> str:
    axes = available_axes(entry)
    if not axes:
        return '<h3>Curves</h3><p class="note">No final run has a curve.</p>'
    figures[f"p{at}"] = {axis: charts.curves(entry, axis, palette) for axis in axes}
    buttons = "".join(
        f'<button type="button" data-axis="{axis}" aria-pressed="{str(place == 0).lower()}">'
        f"{escape(axis_title(entry, axis))}</button>"
        for place, axis in enumerate(axes)
    )
    toggles = toggle("log x", "logx", on=False) + toggle("log y", "logy", on=log_metric(entry))
    toggles += toggle("band", "band", on=True) + toggle("single seeds", "seeds", on=False)
    with_curves = {run.contestant for run in entry.runs if run.stage == "final" and run.curve}
    names = [name for name in dict.fromkeys([row.contestant for row in entry.standings] + sorted(with_curves))]
    legend = "".join(
        f'<button type="button" data-contestant="{escape(name)}" aria-pressed="{str(place < _SHOWN).lower()}" '
        f'title="{escape(name)} (double click: this one alone)">'
        f"{swatch(palette.colour(name), palette.dash(name))}<span>{escape(name)}</span></button>"
        for place, name in enumerate(name for name in names if name in with_curves)
    )
    legend += '<button type="button" class="all" data-all="true">all</button>'
    legend += '<button type="button" class="all" data-all="false">none</button>'
    label = escape(f"{entry.metric} on {entry.name}")
    return (
        f"<h3>{escape(entry.metric[:1].upper() + entry.metric[1:])} on the way</h3><div data-curves "
        f'data-figure="p{at}">'
        f'<div class="controls"><span class="group" role="group" aria-label="x axis">{buttons}</span>{toggles}</div>'
        f'<div class="legend" role="group" aria-label="contestants">{legend}</div>'
        f'<div class="chart" role="img" aria-label="{label}"></div></div>'
    )


def _standings(entry: ProblemResult, palette: Palette) -> str:
    when = "mean over the runs that met it ± half the 95 % interval and half the spacing of measurements"
    columns = [
        Column(
            "#", True, "place in the order of the verdict: target met, then steps to it, then the metric at the end"
        ),
        Column("contestant"),
        Column("target met", True, "final runs that met the target, of those that ended"),
        Column(
            "steps to target",
            True,
            when,
        ),
        Column(
            "seconds to target",
            True,
            when,
        ),
        Column(f"{entry.metric} at the end", True, "mean over the final runs ± half the 95 % interval"),
        Column("optimizer share", True, "share of the step time spent in the method itself"),
        Column("state bytes / parameter", True, "measured bytes of optimizer state per parameter"),
        Column("failed runs", True, "final runs that failed"),
        Column("failed trials", True, "tuning trials that failed, of those that ended"),
    ]
    rows = []
    for place, row in enumerate(entry.standings, 1):
        name = Cell(
            swatch(palette.colour(row.contestant), palette.dash(row.contestant)) + escape(row.contestant),
            row.contestant,
            "name",
        )
        met = row.solved / row.seeds if row.seeds else None
        rows.append(
            [
                number_cell(place),
                name,
                number_cell(met, f"{row.solved} / {row.seeds}" if row.seeds else NOTHING),
                _reach_cell(reach(entry, row)),
                _reach_cell(reach(entry, row, "seconds")),
                _interval_cell(row.final),
                number_cell(row.optimizer_share, share(row.optimizer_share)),
                number_cell(row.state_bytes_per_parameter),
                number_cell(row.failed_seeds, f"{row.failed_seeds} / {row.seeds}"),
                number_cell(row.failed_trials, f"{row.failed_trials} / {row.trials}"),
            ]
        )
    if not rows:
        return ""
    label = f"Standings on {entry.name}"
    often = looks(entry)
    note = (
        f'<p class="note">The metric was {often}: the target is seen met at one of these steps, up to one spacing '
        "after it was. Half the spacing is part of each ± on the way to the target.</p>"
        if often
        else ""
    )
    return f"<h3>Standings</h3>{note}{table(columns, rows, label=label, sorted_by=0)}"


def _skipped(entry: ProblemResult) -> str:
    if not entry.skipped:
        return ""
    rows = [[text_cell(name, "name"), text_cell(reason, "reason")] for name, reason in entry.skipped.items()]
    columns = [Column("contestant"), Column("reason")]
    return f"<h3>Skipped before the first trial</h3>{table(columns, rows, label=f'Skipped on {entry.name}')}"


def _failures(entry: ProblemResult) -> str:
    runs = [run for run in entry.runs if run.state == "failed"]
    if not runs:
        return '<p class="note">No run failed.</p>' if entry.runs else ""
    columns = [Column("contestant"), Column("stage"), Column("trial or seed", True), Column("setting"),
               Column("steps", True), Column("reason")]  # fmt: skip
    rows = [
        [
            text_cell(run.contestant, "name"),
            text_cell(run.stage),
            number_cell(run.slot if run.stage == "tuning" else run.seed),
            text_cell(settings_text(run.settings)),
            number_cell(run.steps),
            reason_cell(run),
        ]
        for run in runs
    ]
    inside = table(columns, rows, label=f"Failures on {entry.name}")
    count = f"{len(runs)} of {len(entry.runs)} runs failed"
    return f"<h3>Failures</h3><details><summary>{count}</summary><div class='inside'>{inside}</div></details>"


def _interval_cell(value: Interval | None) -> Cell:
    return number_cell(None if value is None else value.mean, interval(value))


def _reach_cell(value: Reach | None) -> Cell:
    return _interval_cell(None if value is None else value.shown)
