"""The figures of the report, as Plotly's JSON: plain dictionaries that ``plotly.graph_objects.Figure`` accepts.

Colours are those of the light page; each trace names the index of its colour in ``meta``, so that the page can recolour
it for a dark background. Names are escaped, because Plotly reads them as markup.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from precond.race.report.numbers import finite, plain
from precond.race.report.profiles import Profile
from precond.race.report.series import AXES, MOST_POINTS, Array, band, curve, thin
from precond.race.results.records import ProblemResult, Run, Standing
from precond.race.results.result import RaceResult

Figure = dict[str, Any]

LIGHT = ("#2a78d6", "#eb6834", "#1baf7a", "#eda100", "#e87ba4", "#008300", "#4a3aa7", "#e34948")
DARK = ("#3987e5", "#d95926", "#199e70", "#c98500", "#d55181", "#008300", "#9085e9", "#e66767")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")

_SHOWN = 10
_WIDE = 50
_ALL_POINTS = 120_000

Figures = dict[str, object]
"""Figures of a page by the identifiers of the elements that they are drawn into."""


class Palette:
    """Gives every contestant of a race one colour and dash, the same on each problem."""

    def __init__(self, result: RaceResult) -> None:
        names = [row.contestant for problem in result.problems for row in problem.standings]
        names += [run.contestant for problem in result.problems for run in problem.runs]
        self._index = {name: index for index, name in enumerate(dict.fromkeys(names))}

    def colour(self, name: str) -> int:
        """Index into `LIGHT` and `DARK`."""
        return self._index[name] % len(LIGHT)

    def dash(self, name: str) -> str:
        """Name of the dash, which changes after each round of colours."""
        return DASHES[self._index[name] // len(LIGHT) % len(DASHES)]


def axis_title(problem: ProblemResult, axis: str) -> str:
    """Return what an axis counts, in the words of the problem."""
    linear = problem.kind in ("linear-system", "least-squares")
    titles = {
        "step": "iterations" if linear else "steps",
        "seconds": "seconds",
        "gradients": "products with the matrix" if linear else "gradient evaluations",
    }
    return titles[axis]


def metric_title(problem: ProblemResult) -> str:
    """Return the metric with its unit."""
    return f"{problem.metric} ({problem.unit})" if problem.unit else problem.metric


def log_metric(problem: ProblemResult) -> bool:
    """Whether the metric is read on a logarithmic axis: the problem says so, or linear curves would be flat."""
    if problem.log:
        return True
    good = [run for run in problem.runs if run.stage == "final" and run.state == "complete"]
    values = [value for run in good for value in curve(run, "step")[1].tolist()]
    return bool(values) and min(values) > 0 and max(values) > _WIDE * min(values)


def available_axes(problem: ProblemResult) -> list[str]:
    """Return the axes along which at least one final run has a curve."""
    runs = [run for run in problem.runs if run.stage == "final"]
    return [axis for axis in AXES if any(len(curve(run, axis)[0]) for run in runs)]


def curves(problem: ProblemResult, axis: str, palette: Palette) -> Figure:
    """Return the metric of the final runs against one axis: means, bands from the lowest to the highest seed, seeds."""
    runs = [run for run in problem.runs if run.stage == "final" and len(curve(run, axis)[0])]
    most = max(60, min(MOST_POINTS, _ALL_POINTS // (3 * len(AXES) * max(len(runs), 1))))
    order = list(dict.fromkeys([row.contestant for row in problem.standings] + [run.contestant for run in runs]))
    log = log_metric(problem)
    traces: list[dict[str, Any]] = []
    for place, name in enumerate(order):
        own = [run for run in runs if run.contestant == name]
        style = _Style(palette, name, shown=place < _SHOWN, log=log)
        traces += _contestant(own, axis, style, most, axis_title(problem, axis))
    return {"data": traces, "layout": _curves_layout(problem, axis, log=log)}


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
    figure: Figure = {"data": [], "layout": _layout(height=60 + 230 * rows)}
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


def profiles(entries: Sequence[Profile], cost: str, palette: Palette) -> Figure:
    """Return performance profiles against the ratio to the best cost."""
    end = max([ratio for entry in entries for ratio in entry.ratios], default=1.0) * 1.3
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": html.escape(entry.contestant),
            "x": _numbers([*entry.ratios, max(end, 2.0)]),
            "y": _numbers([*entry.shares, entry.shares[-1]]),
            "line": {
                "shape": "hv",
                "width": 2,
                "color": LIGHT[palette.colour(entry.contestant)],
                "dash": palette.dash(entry.contestant),
            },
            "meta": {"colour": palette.colour(entry.contestant), "role": "mean", "contestant": entry.contestant},
            "hovertemplate": "%{fullData.name}: %{y:.0%} within %{x:.3g} times the best<extra></extra>",
        }
        for entry in entries
    ]
    layout = _layout(height=360)
    layout["xaxis"] = {"type": "log", "title": {"text": f"times the best {cost}"}, "automargin": True}
    layout["yaxis"] = {"tickformat": ".0%", "range": [-0.02, 1.04], "title": {"text": "share of the runs solved"},
                       "automargin": True}  # fmt: skip
    return {"data": traces, "layout": layout}


class _Style:
    def __init__(self, palette: Palette, name: str, *, shown: bool, log: bool) -> None:
        self.name, self.label, self.shown, self.log = name, html.escape(name), shown, log
        self.index, self.dash = palette.colour(name), palette.dash(name)

    def trace(self, role: str, **entries: Any) -> dict[str, Any]:
        return {
            "type": "scatter",
            "name": self.label,
            "meta": {"contestant": self.name, "role": role, "colour": self.index, "shown": self.shown},
            **entries,
        }

    def line(self, width: float) -> dict[str, Any]:
        return {"color": LIGHT[self.index], "dash": self.dash, "width": width}


def _contestant(runs: list[Run], axis: str, style: _Style, most: int, x_title: str) -> list[dict[str, Any]]:
    traces = []
    good = [run for run in runs if run.state == "complete"]
    mean = band(good, axis, log=style.log, most=most)
    hover = f"%{{x:,.5~g}} {x_title}"
    if mean is not None and mean.count > 1:
        traces.append(
            style.trace(
                "band",
                mode="lines",
                x=_numbers([*mean.x, *mean.x[::-1]]),
                y=_numbers([*mean.high, *mean.low[::-1]]),
                fill="toself",
                fillcolor=_transparent(LIGHT[style.index]),
                line={"width": 0},
                hoverinfo="skip",
            )
        )
    for run in runs:
        x, y = _thinned(*curve(run, axis), most)
        broken = run.state == "failed"
        note = "failed" if broken else f"seed {run.seed}"
        trace = style.trace(
            "failed" if broken else "seed",
            mode="lines+markers" if broken else "lines",
            x=_numbers(x),
            y=_numbers(y),
            line=style.line(1),
            opacity=0.6,
            hovertemplate=f"%{{fullData.name}}, {note}<br>{hover}: %{{y:.4~g}}<extra></extra>",
        )
        if broken:
            sizes = [0] * (len(x) - 1) + [9]
            trace["marker"] = {"symbol": "x", "size": sizes, "color": LIGHT[style.index]}
        traces.append(trace)
    if mean is not None:
        traces.append(
            style.trace(
                "mean",
                mode="lines" if len(mean.x) > 1 else "markers",
                x=_numbers(mean.x),
                y=_numbers(mean.mean),
                customdata=[
                    [plain(low), plain(high)] for low, high in zip(mean.low.tolist(), mean.high.tolist(), strict=True)
                ],
                line=style.line(2.2),
                marker={"color": LIGHT[style.index], "size": 7},
                hovertemplate=f"<b>%{{fullData.name}}</b><br>{hover}: %{{y:.4~g}}"
                + (f"<br>{mean.count} seeds from %{{customdata[0]}} to %{{customdata[1]}}" if mean.count > 1 else "")
                + "<extra></extra>",
            )
        )
    return traces


def _curves_layout(problem: ProblemResult, axis: str, *, log: bool) -> dict[str, Any]:
    layout = _layout(height=440)
    layout["xaxis"] = {"title": {"text": axis_title(problem, axis)}, "type": "linear", "automargin": True}
    layout["yaxis"] = {
        "title": {"text": html.escape(metric_title(problem))},
        "type": "log" if log else "linear",
        "exponentformat": "power",
        "automargin": True,
    }
    if (target := finite(problem.target)) is not None:
        layout["shapes"] = [
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": target,
                "y1": target,
                "line": {"dash": "dot", "width": 1.5, "color": "#898781"},
                "label": {"text": f"target {plain(target)}", "textposition": "end", "yanchor": "bottom"},
            }
        ]
    return layout


def _layout(*, height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 60, "r": 16, "t": 16, "b": 52},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"namelength": -1},
        "dragmode": "zoom",
    }


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
        "x": _numbers(x) if numeric else [None if value is None else html.escape(str(value)) for value in x],
        "y": _numbers([score if score is not None else run.score for run in runs]),
        "text": [
            f"{what} {run.slot}<br>{html.escape(name)} = {html.escape(plain(run.settings.get(name)))}<br>"
            + (html.escape(run.reason) if score is not None else f"score {plain(run.score, 5)}")
            for run in runs
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": marker if colour is None else {**marker, "color": LIGHT[colour]},
        "meta": {"role": "trial", "colour": colour},
    }


def _thinned(x: Array, y: Array, most: int) -> tuple[Array, Array]:
    keep = thin(len(x), most)
    return x[keep], y[keep]


def _numbers(values: Any) -> list[float | None]:
    """Six significant digits are more than a screen shows; what is not finite is a gap."""
    numbers = (np.nan if value is None else float(value) for value in values)
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in numbers]


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.14)"


def _must(value: float | None) -> float:
    assert value is not None
    return value
