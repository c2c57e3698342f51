"""The sections of the report, each from the records of the race to HTML."""

from __future__ import annotations

import datetime
import re
import shlex

from precond.core import Paper
from precond.race.report import charts
from precond.race.report.charts import Palette
from precond.race.report.markup import (
    Cell,
    Column,
    chips,
    definitions,
    escape,
    number_cell,
    settings_text,
    swatch,
    table,
    text_cell,
    toggle,
)
from precond.race.report.numbers import NOTHING, finite, interval, plain, share
from precond.race.report.papers import Papers
from precond.race.report.profiles import performance_profiles
from precond.race.report.ranking import ranking_chart
from precond.race.report.resolution import Reach, looks, reach
from precond.race.report.verdict import headline, verdict
from precond.race.results.records import Interval, ProblemResult, Run, Standing
from precond.race.results.result import RaceResult

Figures = dict[str, object]

_AXIS_NAMES = {"step": "steps", "seconds": "seconds", "gradients": "evaluations"}
_SHOWN = 10


def head(result: RaceResult) -> str:
    """Return the headline, and for several problems the outcome on each."""
    state = '<span class="pill good">complete</span>' if result.complete else '<span class="pill warn">partial</span>'
    names = " · ".join(problem.name for problem in result.problems)
    eyebrow = (
        f"<span>precond race</span><span>{escape(names)}</span><span>{escape(_moment(result.created))}</span>{state}"
    )
    text = f'<header><div class="eyebrow">{eyebrow}</div><h1>{escape(headline(result))}</h1>'
    if not result.complete:
        runs = [run for problem in result.problems for run in problem.runs]
        ended = sum(run.state in ("complete", "failed") for run in runs)
        failed = sum(run.state == "failed" for run in runs)
        text += (
            f'<p class="warning"><b>A partial race:</b> it has not ended. {ended} of the {len(runs)} runs begun or '
            f"planned so far have ended, {failed} of them failed. What stands here may change; "
            f'<a href="#resume">resume it</a>.</p>'
        )
    if len(result.problems) == 1:
        text += "".join(f"<p>{escape(remark)}</p>" for remark in verdict(result.problems[0]).remarks)
    else:
        items = "".join(
            f'<li><a href="#p{at}">{escape(problem.name)}</a>{escape(verdict(problem).headline)}</li>'
            for at, problem in enumerate(result.problems)
        )
        text += f'<ul class="outcomes">{items}</ul>'
    return text + "</header>"


def profiles(result: RaceResult, palette: Palette, figures: Figures) -> str:
    """Return the performance profiles, or nothing for a single problem."""
    if len(result.problems) < 2:
        return ""
    text = ""
    for cost, name in (("steps_to_target", "steps"), ("seconds_to_target", "seconds")):
        entries = performance_profiles(result.problems, cost)
        if any(entry.shares[-1] > 0 for entry in entries):
            figures[f"profiles-{name}"] = charts.profiles(entries, name, palette)
            text += (
                f"<div><h3>By {name}</h3>"
                f'<div class="chart" data-plot="profiles-{name}" role="img" aria-label="Performance profiles by '
                f'{name}">'
                "</div></div>"
            )
    if not text:
        return ""
    names = dict.fromkeys(row.contestant for problem in result.problems for row in problem.standings)
    legend = "".join(f"<li>{swatch(palette.colour(name), palette.dash(name))}{escape(name)}</li>" for name in names)
    return (
        '<section id="profiles"><h2>Across the problems</h2><p class="note">Performance profiles (Dolan and Moré): the '
        "height of a curve at 2 is the share of the runs that the contestant solved at no more than twice the cost of "
        "the best. Left end: how often it was the best; right end: how often it met the target at all. Every problem "
        f"weighs the same; a problem that a contestant did not race counts as not solved.</p>"
        f'<ul class="chips">{legend}</ul><div class="columns">{text}</div></section>'
    )


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
            ("metric", charts.metric_title(entry)),
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
    text += _contestants(entry, at, palette, figures, papers) + _skipped(entry) + _failures(entry)
    return text + "</section>"


def about(result: RaceResult) -> str:
    """Return how to read the page, how to resume the race, and what it ran on."""
    asked = shlex.split(result.command) if _splits(result.command) else []
    again = result.command if not asked or "--resume" in asked else f"{result.command} --resume"
    how = (
        f"<pre>{escape(again)}</pre>"
        if result.command
        else "<p>Started from Python: call <code>precond.race.run</code> again with the same arguments, the "
        "same folder "
        "and <code>resume=True</code>.</p>"
    )
    command = f"<h3>Command</h3><pre>{escape(result.command)}</pre>" if result.command else ""
    return (
        '<section id="about"><h2>How to read this page</h2>'
        "<p>Every contestant got the same number of tuning trials over its own search space; its best setting was then "
        "run again from fresh seeds, and only those final runs are compared. Lower values of the metric are better.</p>"
        "<p><b>Intervals.</b> <i>a ± b</i> is the mean over seeds and half the width of its 95 % confidence interval "
        "(Student’s t). Steps and seconds to the target are averaged over the runs that met it; they are known only to "
        "the spacing of the measurements, half of which is added to <i>b</i>. A contestant is said to win only when "
        "its interval does not overlap with that of any other, that spacing included; with one seed there is no "
        "interval and no winner. Intervals show chance in the seeds, not what better tuning would have brought.</p>"
        "<p><b>Curves.</b> Lines are means over seeds (geometric means where the metric is read on a "
        "logarithmic axis), "
        "bands go from the lowest to the highest seed. Both cover only the range that all seeds of a "
        "contestant reached: "
        "nothing is extrapolated, and failed runs are left out of the mean. Long curves are thinned for the screen; "
        "<code>results.json</code> holds more points.</p>"
        "<p><b>Time.</b> Seconds are on the harness’s clock: evaluation, compilation and warm-up "
        "excluded. The optimizer "
        "share is the part of a step spent in the method itself.</p>"
        f'<h3 id="resume">Resume or extend</h3>{how}'
        f"{command}"
        '<div class="columns">'
        f"<div><h3>Options</h3>{definitions(result.options)}</div>"
        f"<div><h3>Machine</h3>{definitions(result.machine)}</div>"
        f"<div><h3>Versions</h3>{definitions(result.versions)}</div></div></section>"
    )


def _curves(entry: ProblemResult, at: int, palette: Palette, figures: Figures) -> str:
    axes = charts.available_axes(entry)
    if not axes:
        return '<h3>Curves</h3><p class="note">No final run has a curve.</p>'
    figures[f"p{at}"] = {axis: charts.curves(entry, axis, palette) for axis in axes}
    buttons = "".join(
        f'<button type="button" data-axis="{axis}" aria-pressed="{str(place == 0).lower()}">'
        f"{escape(charts.axis_title(entry, axis))}</button>"
        for place, axis in enumerate(axes)
    )
    toggles = toggle("log x", "logx", on=False) + toggle("log y", "logy", on=charts.log_metric(entry))
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


def _contestants(entry: ProblemResult, at: int, palette: Palette, figures: Figures, papers: Papers) -> str:
    if not entry.standings:
        return ""
    parts = []
    for place, row in enumerate(entry.standings):
        trials = [run for run in entry.runs if run.stage == "tuning" and run.contestant == row.contestant]
        finals = [run for run in entry.runs if run.stage == "final" and run.contestant == row.contestant]
        mark = swatch(palette.colour(row.contestant), palette.dash(row.contestant))
        settings = f'<span class="faint">{escape(settings_text(row.settings))}</span>' if row.settings else ""
        paper = "".join(_paper(paper) for paper in papers.get(row.contestant, ()))
        work = {name: count for name, count in row.work.items() if count}
        facts = {
            "tuning trials": f"{row.trials}, {row.failed_trials} failed",
            "final runs": f"{row.seeds}, {row.failed_seeds} failed, {row.solved} met the target",
            "optimizer share of a step": share(row.optimizer_share),
            "state bytes / parameter": plain(row.state_bytes_per_parameter),
            "compilation and warm-up": _warmup([*trials, *finals]),
        }
        inside = (
            '<div class="columns">'
            f"<div><h4>Tuned setting</h4>{definitions(row.settings)}</div>"
            f"<div><h4>Search space</h4>{definitions(row.space)}</div>"
            f"<div><h4>Work of a final run (mean count)</h4>{definitions(work)}</div>"
            f"<div><h4>Measured</h4>{definitions(facts)}</div></div>"
        )
        figure = charts.tuning(row, trials, entry, palette)
        if figure is not None:
            figures[f"p{at}c{place}"] = figure
            label = escape(f"Tuning of {row.contestant}: score against each hyperparameter")
            inside += (
                f"<h4>Tuning trials</h4>"
                f'<div class="chart" data-plot="p{at}c{place}" role="img" aria-label="{label}"></div>'
            )
        inside += _trials(trials, row) + _finals(finals, row)
        parts.append(
            f'<details id="p{at}c{place}"><summary>{mark}<b>{escape(row.contestant)}</b>'
            f"<span>{escape(row.title)}</span>"
            f'{settings}</summary><div class="inside">{paper}{inside}</div></details>'
        )
    return f"<h3>Contestants: settings, work, tuning</h3>{''.join(parts)}"


def _trials(runs: list[Run], row: Standing) -> str:
    if not runs:
        return '<p class="faint">No tuning trials.</p>'
    names = list(dict.fromkeys(name for run in runs for name in run.settings))
    numeric = [
        all(finite(run.settings.get(name)) is not None for run in runs if name in run.settings) for name in names
    ]
    columns = [Column("trial", True), *(Column(name, number) for name, number in zip(names, numeric, strict=True))]
    columns += [
        Column("score", True, "what tuning minimizes"),
        Column("steps", True),
        Column("state"),
        Column("reason"),
    ]
    rows = [
        [
            number_cell(run.slot),
            *(
                number_cell(run.settings.get(name)) if number else text_cell(plain(run.settings.get(name)))
                for name, number in zip(names, numeric, strict=True)
            ),
            number_cell(run.score, plain(run.score, 5)),
            number_cell(run.steps),
            text_cell(run.state, "failed" if run.state == "failed" else ""),
            _reason(run),
        ]
        for run in runs
    ]
    return table(columns, rows, label=f"Tuning trials of {row.contestant}", sorted_by=0)


def _finals(runs: list[Run], row: Standing) -> str:
    if not runs:
        return ""
    columns = [
        Column("seed", True), Column("metric at the end", True), Column("best", True), Column("steps to target", True),
        Column("seconds to target", True), Column("steps", True), Column("seconds", True), Column("state"),
        Column("reason"),
    ]  # fmt: skip
    rows = [
        [
            number_cell(run.seed, str(run.seed)),
            number_cell(run.final, plain(run.final, 5)),
            number_cell(run.best, plain(run.best, 5)),
            number_cell(run.steps_to_target),
            number_cell(run.seconds_to_target),
            number_cell(run.steps),
            number_cell(run.seconds),
            text_cell(run.state, "failed" if run.state == "failed" else ""),
            _reason(run),
        ]
        for run in runs
    ]
    return f"<h4>Final runs</h4>{table(columns, rows, label=f'Final runs of {row.contestant}')}"


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
            _reason(run),
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


def _reason(run: Run) -> Cell:
    return Cell(escape(run.reason), run.reason or None, "reason")


def _warmup(runs: list[Run]) -> str:
    """The longest one: only the first run in a process has to warm up."""
    seconds = [value for run in runs if (value := finite(run.warmup_seconds)) is not None]
    return f"at most {plain(max(seconds), 3)} s, not part of the times" if any(seconds) else NOTHING


def _paper(paper: Paper) -> str:
    where = escape(paper.venue)
    if paper.arxiv:
        link = f'<a href="https://arxiv.org/abs/{escape(paper.arxiv)}" rel="noreferrer">arXiv {escape(paper.arxiv)}</a>'
        where = f"{where}, {link}" if where else link
    return f"<p>{escape(paper.authors)} ({paper.year}). <i>{escape(paper.title)}</i>. {where}</p>"


def _moment(created: str) -> str:
    """The time of creation for a reader; as it is when it is not ISO 8601."""
    try:
        moment = datetime.datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".strip()


def _splits(command: str) -> bool:
    try:
        return bool(shlex.split(command))
    except ValueError:
        return False
