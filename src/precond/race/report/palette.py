"""Colours and dashes of the contestants of a race."""

from __future__ import annotations

from precond.race.results.result import RaceResult

LIGHT = ("#2a78d6", "#eb6834", "#1baf7a", "#eda100", "#e87ba4", "#008300", "#4a3aa7", "#e34948")
DARK = ("#3987e5", "#d95926", "#199e70", "#c98500", "#d55181", "#008300", "#9085e9", "#e66767")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


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
