"""The main curves as PNG files, drawn with Matplotlib and without a display."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from precond.race.report.axes import available_axes, axis_title, log_metric, metric_title
from precond.race.report.numbers import finite, plain
from precond.race.report.palette import DASHES, LIGHT, Palette
from precond.race.report.series import band
from precond.race.results.records import ProblemResult
from precond.race.results.result import RaceResult

_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (9, 2)))
_LEGEND = 20


def picture_names(problems: Sequence[ProblemResult]) -> list[str]:
    """Return one file name per problem, safe in every file system and different from each other."""
    names: list[str] = []
    for problem in problems:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", problem.name).strip("-.")[-60:] or "problem"
        name, number = f"curves-{stem}.png", 2
        while name.lower() in (other.lower() for other in names):
            name, number = f"curves-{stem}-{number}.png", number + 1
        names.append(name)
    return names


def write_pictures(result: RaceResult, out: Path) -> list[Path]:
    """Write ``curves-<problem>.png`` for every problem that has curves, each replaced atomically.

    Args:
        result: The race.
        out: Folder to write to.

    Returns:
        The files written.
    """
    palette = Palette(result)
    written = []
    for problem, name in zip(result.problems, picture_names(result.problems), strict=True):
        if not available_axes(problem):
            continue
        path = out / name
        temporary = out / f".{name}.{os.getpid()}.part"
        try:
            _draw(problem, palette, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        written.append(path)
    return written


def _draw(problem: ProblemResult, palette: Palette, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axes_names = [axis for axis in available_axes(problem) if axis != "gradients"] or available_axes(problem)
    figure = Figure(figsize=(5.2 * len(axes_names) + 1.9, 4.0), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    handles: dict[str, Any] = {}
    log = log_metric(problem)
    for axis, axes in zip(axes_names, figure.subplots(1, len(axes_names), sharey=True, squeeze=False)[0], strict=True):
        for row in problem.standings:
            runs = [run for run in problem.runs if run.stage == "final" and run.contestant == row.contestant]
            mean = band([run for run in runs if run.state == "complete"], axis, log=log)
            if mean is None:
                continue
            colour = LIGHT[palette.colour(row.contestant)]
            dash = _DASHES[DASHES.index(palette.dash(row.contestant))]
            if mean.count > 1:
                axes.fill_between(mean.x, mean.low, mean.high, color=colour, alpha=0.14, linewidth=0)
            marker = "o" if len(mean.x) == 1 else None
            handles[row.contestant] = axes.plot(
                mean.x, mean.mean, color=colour, linestyle=dash, marker=marker, linewidth=1.8
            )[0]
        axes.set_xlabel(axis_title(problem, axis))
        if log:
            axes.set_yscale("log")
        axes.grid(color="#e1e0d9", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        if (target := finite(problem.target)) is not None and not (log and target <= 0):
            axes.axhline(target, color="#52514e", linestyle=":", linewidth=1.2)
            axes.annotate(f"target {plain(target)}", (1, target), xycoords=("axes fraction", "data"), ha="right",
                          va="bottom", fontsize=8, color="#52514e")  # fmt: skip
    first = figure.axes[0]
    first.set_ylabel(metric_title(problem), parse_math=False)
    figure.suptitle(problem.name, parse_math=False, fontsize=11)
    if handles:
        shown = list(handles)[:_LEGEND]
        legend = figure.legend([handles[name] for name in shown], [str(at) for at in range(len(shown))],
                               loc="outside right upper", frameon=False, fontsize=8)  # fmt: skip
        for text, name in zip(legend.get_texts(), shown, strict=True):
            text.set_parse_math(False)  # set afterwards, so that "$" and a leading "_" are plain text
            text.set_text(name if len(name) <= 32 else name[:31] + "…")
        if len(handles) > _LEGEND:
            legend.set_title(f"{_LEGEND} of {len(handles)} shown here", prop={"size": 8})  # type: ignore[arg-type]  # as matplotlib documents it
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")  # a name in a script that the font lacks
        figure.savefig(path, dpi=130, format="png")
