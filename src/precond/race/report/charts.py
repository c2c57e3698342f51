"""The figures of the report: curves of a problem, and performance profiles."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from precond.race.report.axes import axis_title, log_metric, metric_title
from precond.race.report.numbers import finite, plain
from precond.race.report.palette import LIGHT, Palette
from precond.race.report.plotly import Figure, bare_layout, gapped
from precond.race.report.profiles import Profile
from precond.race.report.series import AXES, MOST_POINTS, Array, band, curve, thin
from precond.race.results.records import ProblemResult, Run

_SHOWN = 10
_ALL_POINTS = 120_000


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


def profiles(entries: Sequence[Profile], cost: str, palette: Palette) -> Figure:
    """Return performance profiles against the ratio to the best cost."""
    end = max([ratio for entry in entries for ratio in entry.ratios], default=1.0) * 1.3
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": html.escape(entry.contestant),
            "x": gapped([*entry.ratios, max(end, 2.0)]),
            "y": gapped([*entry.shares, entry.shares[-1]]),
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
    layout = bare_layout(height=360)
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
                x=gapped([*mean.x, *mean.x[::-1]]),
                y=gapped([*mean.high, *mean.low[::-1]]),
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
            x=gapped(x),
            y=gapped(y),
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
                x=gapped(mean.x),
                y=gapped(mean.mean),
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
    layout = bare_layout(height=440)
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


def _thinned(x: Array, y: Array, most: int) -> tuple[Array, Array]:
    keep = thin(len(x), most)
    return x[keep], y[keep]


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.14)"
