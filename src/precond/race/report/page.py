"""The report of a race: one HTML file that holds everything it shows, and pictures of the main curves."""

from __future__ import annotations

import dataclasses
import json
import os
import string
from importlib import resources
from pathlib import Path
from typing import Any

from precond.core import BadInputError
from precond.race.report import sections
from precond.race.report.markup import escape
from precond.race.report.palette import DARK, LIGHT, Palette
from precond.race.report.papers import Papers, known_papers
from precond.race.report.pictures import write_pictures
from precond.race.report.plotly import Figures
from precond.race.report.problem import problem as problem_section
from precond.race.report.verdict import headline, ranking
from precond.race.results.result import RaceResult


def write_report(result: RaceResult, out: Path, papers: Papers | None = None) -> None:
    """Write ``report.html`` and ``curves-*.png`` into a folder, each file replaced atomically.

    Args:
        result: The race, complete or not.
        out: Folder to write to; made if it is missing.
        papers: Papers of each contestant by name, shown with its details; those of the recipes unless given.

    Raises:
        BadInputError: The folder cannot be written to.
    """
    result = _in_order(result)
    page = report_page(result, papers)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _replace(out / "report.html", page)
        write_pictures(result, out)
    except OSError as error:
        raise BadInputError(
            f"{error.filename or out}: cannot write the report ({error.strerror}); make room or choose another --out"
        ) from error


def report_page(result: RaceResult, papers: Papers | None = None) -> str:
    """Return the page: self-contained, with Plotly inside; it asks for nothing from any network."""
    from plotly.offline import get_plotlyjs

    result = _in_order(result)
    if papers is None:
        papers = known_papers({row.contestant for entry in result.problems for row in entry.standings})
    palette = Palette(result)
    figures: Figures = {}
    body = [sections.head(result)]
    several = len(result.problems) > 1
    body += [
        problem_section(entry, at, palette, figures, papers, lead=several) for at, entry in enumerate(result.problems)
    ]
    body.insert(1, sections.profiles(result, palette, figures))
    body.append(sections.about(result))
    return string.Template(_asset("page.html")).substitute(
        title=escape(f"precond race: {headline(result)}"),
        style=string.Template(_asset("page.css")).substitute(light=_variables(LIGHT), dark=_variables(DARK)),
        body="\n".join(body),
        figures=_embedded(figures),
        plotly=get_plotlyjs(),
        script=_asset("page.js"),
    )


def _in_order(result: RaceResult) -> RaceResult:
    """The race with its contestants in the order of the verdict, so that everything on the page agrees with it."""
    problems = [dataclasses.replace(entry, standings=ranking(entry)) for entry in result.problems]
    return dataclasses.replace(result, problems=problems)


def _asset(name: str) -> str:
    return resources.files("precond.race.report").joinpath(name).read_text(encoding="utf-8")


def _variables(colours: tuple[str, ...]) -> str:
    return " ".join(f"--c{at}: {colour};" for at, colour in enumerate(colours))


def _embedded(data: Any) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
