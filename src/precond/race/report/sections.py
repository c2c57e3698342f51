"""The sections of the report on the whole race: headline, profiles, conditions."""

from __future__ import annotations

import datetime
import shlex

from precond.race.report import charts
from precond.race.report.markup import (
    definitions,
    escape,
    swatch,
)
from precond.race.report.palette import Palette
from precond.race.report.plotly import Figures
from precond.race.report.profiles import performance_profiles
from precond.race.report.verdict import headline, verdict
from precond.race.results.result import RaceResult


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
