"""The figure of a tuning: the score of each trial against each hyperparameter."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from precond.race.report.numbers import finite, plain
from precond.race.report.palette import LIGHT, Palette
from precond.race.report.plotly import Figure, bare_layout, gapped
from precond.race.results.records import ProblemResult, Run, Standing


def tuning(standing: Standing, runs: Sequence[Run], problem: ProblemResult, palette: Palette) -> Figure | None:
    """Return the score of each tuning trial against each hyperparameter, or ``None`` when there is nothing to plot."""
    runs = [run for run in runs if run.state in ("complete", "failed")]
    names = list(dict.fromkeys(name for run in runs for name in run.settings))
    scored = [run for run in runs if finite(run.score) is not None]
    if not names or not scored:
        return None
    scores = [_must(run.score) for run in scored]
    best = min(scored, key=lambda run: _must(run.score))
    log = min(scores) > 0 and (problem.log or max(scores) > 20 * min(scores))
    top = max(scores)
    failed = [run for run in runs if finite(run.score) is None]
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure: Figure = {"data": [], "layout": bare_layout(height=60 + 230 * rows)}
    figure["layout"]["grid"] = {"rows": rows, "columns": columns, "pattern": "independent", "ygap": 0.45, "xgap": 0.14}
    colour = palette.colour(standing.contestant)
    for place, name in enumerate(names):
        suffix = "" if place == 0 else str(place + 1)
        values = [run.settings.get(name) for run in runs]
        numeric = all(finite(value) is not None for value in values if value is not None)
        positive = [value for value in values if value is not None] if numeric else []
        wide = bool(positive) and min(positive) > 0 and max(positive) > 20 * min(positive)
        kind = ("log" if wide else "linear") if numeric else "category"
        figure["layout"][f"xaxis{suffix}"] = {
            "title": {"text": html.escape(name)},
            "type": kind,
            "exponentformat": "power",
            "automargin": True,
        }
        figure["layout"][f"yaxis{suffix}"] = {"type": "log" if log else "linear", "automargin": True}
        if place % columns == 0:
            figure["layout"][f"yaxis{suffix}"]["title"] = {"text": "score (lower is better)"}
        axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "type": "scatter", "mode": "markers", "showlegend": False}
        rest = [run for run in scored if run is not best]
        figure["data"] += [
            _trials(rest, name, numeric, axes, {"symbol": "circle", "size": 8, "opacity": 0.75}, colour, "trial"),
            _trials([best], name, numeric, axes, {"symbol": "star", "size": 14}, colour, "best trial"),
            _trials(failed, name, numeric, axes, {"symbol": "x-thin-open", "size": 8}, None, "failed trial", top),
        ]
    return figure


def _trials(
    runs: list[Run],
    name: str,
    numeric: bool,
    axes: dict[str, Any],
    marker: dict[str, Any],
    colour: int | None,
    what: str,
    score: float | None = None,
) -> dict[str, Any]:
    x = [run.settings.get(name) for run in runs]
    return {
        **axes,
        "name": what,
        "x": gapped(x) if numeric else [None if value is None else html.escape(str(value)) for value in x],
        "y": gapped([score if score is not None else run.score for run in runs]),
        "text": [
            f"{what} {run.slot}<br>{html.escape(name)} = {html.escape(plain(run.settings.get(name)))}<br>"
            + (html.escape(run.reason) if score is not None else f"score {plain(run.score, 5)}")
            for run in runs
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": marker if colour is None else {**marker, "color": LIGHT[colour]},
        "meta": {"role": "trial", "colour": colour},
    }


def _must(value: float | None) -> float:
    assert value is not None
    return value
