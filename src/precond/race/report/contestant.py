"""The section of one problem on its contestants: settings, trials, final runs."""

from __future__ import annotations

from precond.core import Paper
from precond.race.report.markup import (
    Cell,
    Column,
    definitions,
    escape,
    number_cell,
    settings_text,
    swatch,
    table,
    text_cell,
)
from precond.race.report.numbers import NOTHING, finite, plain, share
from precond.race.report.palette import Palette
from precond.race.report.papers import Papers
from precond.race.report.plotly import Figures
from precond.race.report.tuning import tuning
from precond.race.results.records import ProblemResult, Run, Standing


def contestants(entry: ProblemResult, at: int, palette: Palette, figures: Figures, papers: Papers) -> str:
    """Return one folding part for each contestant: its settings, what was drawn of it, its trials and final runs."""
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
        figure = tuning(row, trials, entry, palette)
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
            reason_cell(run),
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
            reason_cell(run),
        ]
        for run in runs
    ]
    return f"<h4>Final runs</h4>{table(columns, rows, label=f'Final runs of {row.contestant}')}"


def reason_cell(run: Run) -> Cell:
    """Return why a run failed, as a cell."""
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
