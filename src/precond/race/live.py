"""What a person sees while a race goes on: a table that fills and a bar; plain lines without a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from precond.race.plan import Lane, Plan
from precond.race.results.records import Interval, ProblemResult, Run, Standing
from precond.race.results.result import RaceResult


class Display(Protocol):
    """Where a race is shown."""

    def show(self, result: RaceResult) -> None:
        """Show how far the race is."""

    def note(self, lane: Lane, text: str) -> None:
        """Show how far the run of this process is."""


class Silent:
    """Shows nothing."""

    def show(self, result: RaceResult) -> None:
        """Show nothing."""

    def note(self, lane: Lane, text: str) -> None:
        """Show nothing."""


class Lines:
    """One line for each contestant that finishes a stage, for logs and pipes."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._tuning, self._finals = plan.size()
        self._said: set[tuple[str, str, str]] = set()
        self._console.print(f"{self._tuning} tuning trials and {self._finals} final runs", highlight=False)

    def show(self, result: RaceResult) -> None:
        """Print what is new."""
        done = sum(run.ended for problem in result.problems for run in problem.runs)
        for problem in result.problems:
            for name, reason in problem.skipped.items():
                self._once(problem, name, "skipped", f"{name} skipped: {reason}")
            for row in problem.standings:
                runs = [run for run in problem.runs if run.contestant == row.contestant]
                tuning = [run for run in runs if run.stage == "tuning"]
                finals = [run for run in runs if run.stage == "final"]
                if tuning and all(run.ended for run in tuning):
                    best = min((run.score for run in tuning if run.score is not None), default=None)
                    text = "every trial failed" if best is None else f"best score {score(best)} with {settings(row)}"
                    self._once(problem, row.contestant, "tuned", f"{row.contestant} tuned: {text}  [{self._of(done)}]")
                if finals and all(run.ended for run in finals):
                    text = f"{problem.metric} {spread(row.final)}" if row.final else f"failed: {finals[0].reason}"
                    self._once(problem, row.contestant, "raced", f"{row.contestant} raced: {text}  [{self._of(done)}]")

    def note(self, lane: Lane, text: str) -> None:
        """Say nothing: lines are for what has ended."""

    def _of(self, done: int) -> str:
        return f"{done}/{self._tuning + self._finals}"

    def _once(self, problem: ProblemResult, name: str, stage: str, text: str) -> None:
        if (problem.name, name, stage) not in self._said:
            self._said.add((problem.name, name, stage))
            self._console.print(f"{problem.name}: {text}", highlight=False, markup=False, soft_wrap=True)


class Board:
    """A live table of contestants with a bar."""

    def __init__(self, live: Live, plan: Plan, jobs: int) -> None:
        self._live, self._jobs = live, jobs
        self._total = sum(plan.size())
        self._started = time.monotonic()
        self._known = 0
        self._first: int | None = None
        self._notes: dict[tuple[str, str], str] = {}
        self._result: RaceResult | None = None
        self._bar = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("{task.fields[left]}"), expand=True,
        )  # fmt: skip
        self._task = self._bar.add_task("runs", total=self._total, left="")

    def show(self, result: RaceResult) -> None:
        """Draw the tables anew."""
        self._result = result
        runs = [run for problem in result.problems for run in problem.runs if run.ended]
        if self._first is None:
            self._first = len(runs)
        if len(runs) != self._known:
            self._notes.clear()
        self._known = len(runs)
        self._bar.update(self._task, completed=len(runs), left=self._left(len(runs)))
        self._draw()

    def note(self, lane: Lane, text: str) -> None:
        """Show how far a run is beside its contestant."""
        self._notes[(lane.problem.name, lane.contestant.name)] = text
        self._draw()

    def _draw(self) -> None:
        if self._result is None:
            return
        tables = [table(problem, self._notes) for problem in self._result.problems]
        self._live.update(Group(*tables, self._bar))

    def _left(self, done: int) -> str:
        fresh = done - (self._first or 0)
        if fresh < 3 or done >= self._total:
            return ""
        seconds = (time.monotonic() - self._started) / fresh * (self._total - done)
        return f"about {duration(seconds)} left"


def table(problem: ProblemResult, notes: dict[tuple[str, str], str] | None = None) -> Table:
    """Return the table of one problem, best first.

    Args:
        problem: What is known.
        notes: How far running runs are, by problem and contestant; ``None`` when the race is over.

    Returns:
        The table.
    """
    unit = f", {problem.unit}" if problem.unit else ""
    grid = Table(
        title=f"{problem.name}: {problem.metric}{unit} after {problem.budget}, target {problem.target:g}",
        title_justify="left", caption_justify="left", expand=False, pad_edge=False, box=None, header_style="bold",
    )  # fmt: skip
    grid.add_column("contestant", no_wrap=True)
    if notes is not None:
        for name in ("trials", "best score", "seeds"):
            grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("at the end (95 %)", justify="right", no_wrap=True)
    grid.add_column("solved", justify="right", no_wrap=True)
    grid.add_column("to target", justify="right", no_wrap=True)
    grid.add_column("now" if notes is not None else "tuned setting", style="dim", overflow="fold")
    for row in problem.standings:
        runs = [run for run in problem.runs if run.contestant == row.contestant]
        cells = [row.contestant]
        if notes is not None:
            best = min((run.score for run in runs if run.stage == "tuning" and run.score is not None), default=None)
            cells += [
                _count(row.trials, row.failed_trials, _planned(runs, "tuning")), score(best),
                _count(row.seeds, row.failed_seeds, _planned(runs, "final")),
            ]  # fmt: skip
        cells += [spread(row.final) or _reason(runs), f"{row.solved}/{row.seeds}" if row.seeds else "", _to_target(row)]
        if notes is not None:
            running = [run for run in runs if run.state == "running"]
            said = notes.get((problem.name, row.contestant)) or next((run.reason for run in running if run.reason), "")
            cells.append(said or ("running" if running else ""))
        else:
            cells.append(settings(row))
        grid.add_row(*(Text(cell) for cell in cells))
    reasons: dict[str, list[str]] = {}
    for name, reason in problem.skipped.items():
        reasons.setdefault(reason, []).append(name)
    grid.caption = Text("\n".join(f"{', '.join(names)} skipped: {reason}" for reason, names in reasons.items()))
    return grid


def settings(row: Standing) -> str:
    """Return tuned settings as text."""
    return ", ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                     for name, value in row.settings.items()) or "no settings"  # fmt: skip


def score(value: float | None) -> str:
    """Return a score as text; what is larger than any work is a target that was not met."""
    if value is None:
        return ""
    return "unsolved" if value >= 1e9 else f"{value:.4g}"


def spread(value: Interval | None) -> str:
    """Return a mean with the half width of its interval."""
    if value is None:
        return ""
    if value.low is None or value.high is None:
        return f"{value.mean:.4g}"
    return f"{value.mean:.4g} ± {(value.high - value.low) / 2:.2g}"


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def open_display(progress: bool, plan: Plan, jobs: int) -> Iterator[Display]:
    """Open the display that fits: a live table on a terminal, lines elsewhere, nothing unless asked."""
    if not progress:
        yield Silent()
        return
    console = Console()
    limit = upper_limit(plan, jobs)
    if limit is not None:
        console.print(f"at most {duration(limit)} of running time, evaluation and warm-up apart", highlight=False)
    if not console.is_terminal:
        yield Lines(console, plan)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield Board(live, plan, jobs)


def upper_limit(plan: Plan, jobs: int) -> float | None:
    """Return the seconds that a race can take at most, when every run has a limit in seconds."""
    total = 0.0
    for lane in plan.lanes:
        if lane.budget.seconds is None:
            return None
        total += lane.budget.seconds * (len(lane.tuning) + lane.seeds)
    return total / jobs


def _reason(runs: list[Run]) -> str:
    """Say that every final run has failed; the report says why."""
    finals = [run for run in runs if run.stage == "final"]
    return "failed" if finals and all(run.state == "failed" for run in finals) else ""


def _planned(runs: list[Run], stage: str) -> int:
    return sum(run.stage == stage for run in runs)


def _count(done: int, failed: int, planned: int) -> str:
    if not planned:
        return ""
    return f"{done}/{planned}" + (f" ({failed} failed)" if failed else "")


def _to_target(row: Standing) -> str:
    if row.steps_to_target is None or row.seconds_to_target is None:
        return ""
    return f"{row.steps_to_target.mean:.0f} steps, {row.seconds_to_target.mean:.3g} s"
