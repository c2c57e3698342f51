"""``precond.race.run``: the whole race, from names to a report."""

from __future__ import annotations

import contextlib
import datetime
import functools
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from precond import problems as known_problems
from precond.core import BadInputError, Problem
from precond.race import folder
from precond.race.collect import collect
from precond.race.field.admission import check_device
from precond.race.ledger.database import LedgerError
from precond.race.ledger.ledger import Ledger, open_ledger
from precond.race.options import Options, Request, listed, stored
from precond.race.plan import Lane, Plan, make_plan
from precond.race.results.result import RaceResult
from precond.race.workers.execute import execute

if TYPE_CHECKING:
    from precond.race.live import Display

_log = logging.getLogger(__name__)

WAIT = 0.25
"""Seconds between looks at a ledger on which only others work."""
SHOW = 0.5
"""Seconds between two pictures of the race."""
PARTIAL = 15.0
"""Seconds between partial results while a race goes on."""


def run(
    problem: str | Problem | Sequence[str | Problem] | None = None,
    methods: str | Sequence[str] | None = None,
    *,
    trials: int | None = None,
    seeds: int | None = None,
    budget: str | None = None,
    out: str | Path = "race-report",
    resume: bool = False,
    jobs: int = 1,
    device: str | None = None,
    storage: str | None = None,
    progress: bool = False,
    command: str = "",
) -> RaceResult:
    """Race methods on one problem or several, each tuned with the same number of trials.

    Example::

        import precond

        result = precond.race.run("digits", ["adamw", "soap"], trials=4, seeds=3, out="my-race")
        print(result.table())

    Args:
        problem: What to race on: a name, a path, ``file.py:function``, a `Problem`, or several of them; ``"digits"``
            unless given.
        methods: Names of contestants (``"adamw"``, ``"cg+ic0"``, ``"torch.optim.AdamW"``); the defaults of the
            problem's kind unless given.
        trials: Tuning trials of each contestant that has something to tune; 8 unless given.
        seeds: Fresh seeds on which the tuned setting is rerun; 5 unless given.
        budget: Horizon of one run, ``"500steps"`` or ``"120s"``; each problem's own unless given.
        out: Folder of the ledger and the report.
        resume: Continue (or join) the race in ``out``; starts one if there is none.
        jobs: How many runs go on at once, each in a process of its own when there is more than one.
        device: ``"cpu"`` or ``"cuda"``.
        storage: URL of an Optuna storage that holds the ledger, for processes on several machines.
        progress: Draw the race while it goes on.
        command: The command line, for the report.

    Returns:
        The result; it and the report are written into ``out`` too.

    Raises:
        BadInputError: An option, a file or the folder cannot be used.
        UnknownNameError: A name that nobody has; the message lists the nearest.
        IncompatibleError: None of the contestants can run on a problem.
        LedgerError: The ledger cannot be read or written.
    """
    if jobs < 1:
        raise BadInputError(f"jobs must be at least 1, not {jobs}")
    given = None if problem is None else [problem] if isinstance(problem, str | Problem) else list(problem)
    objects = {each.name: each for each in given or () if isinstance(each, Problem)}
    if objects and jobs > 1:
        raise BadInputError("with jobs > 1 a problem must have a name that other processes can load: file.py:function")
    keys = None if given is None else tuple(
        key for each in given for key in (listed_problems(each) if isinstance(each, str) else (each.name,))
    )  # fmt: skip
    request = Request(keys, listed(methods), trials, seeds, budget, device)

    # whatever is wrong with names or files is said before a folder is made
    race = None
    target = Path(out)
    if not resume or (storage is None and not (target / folder.LEDGER).exists()):
        options = request.create(_now(), command)
        race = _resolve(options, objects)
    place = folder.prepare(target, resume=resume, storage=storage)
    ledger = open_ledger(place)
    header = ledger.header()
    if header is not None:
        if not resume:
            raise BadInputError(f"{place} holds a race already: continue or join it with --resume")
        options = request.grow(stored(header), str(place))
        race = _resolve(options, objects)
    elif race is None:
        options = request.create(_now(), command)
        race = _resolve(options, objects)
    if header is None or stored(header) != options:
        ledger.write_header(_plain(options))
    return _Race(race, ledger, place, target, jobs, objects).go(progress)


def listed_problems(text: str) -> tuple[str, ...]:
    """Split ``"digits,poisson2d"`` into problems; a comma inside options (``poisson2d:n=64,m=32``) is kept.

    Args:
        text: The text of one argument.

    Returns:
        The problems.
    """
    parts: list[str] = []
    for part in text.split(","):
        continues = parts and ":" in parts[-1] and "=" in part and ":" not in part.split("=", 1)[0]
        if continues:
            parts[-1] += f",{part}"
        elif part.strip():
            parts.append(part.strip())
    if not parts:
        raise BadInputError("no problem is named: write digits, a path or file.py:function")
    return tuple(dict.fromkeys(parts))


class _Race:
    """A race that has been resolved and has its ledger."""

    def __init__(
        self, plan: Plan, ledger: Ledger, place: Path | str, out: Path, jobs: int, objects: dict[str, Problem]
    ) -> None:
        self.plan, self.ledger, self.place, self.out, self.jobs = plan, ledger, place, out, jobs
        self.objects = objects
        self.written = self.shown = time.monotonic()

    def go(self, progress: bool) -> RaceResult:
        with _display(progress, self.plan, self.jobs) as display:
            try:
                self.plan.advance(self.ledger)
                display.show(self._collect())
                if self.jobs == 1:
                    self._alone(display)
                else:
                    self._in_company(display)
            except KeyboardInterrupt:
                self._report(display)
                raise
            return self._report(display)

    def _alone(self, display: Display) -> None:
        """Run every job in this process, waiting when only others have work."""
        device = check_device(self.plan.options.device)
        waited = False
        while True:
            complete, taken = self.plan.take(self.ledger)
            if complete and not self._grown():
                return
            if taken is not None:
                lane, claim = taken
                execute(self.ledger, lane, claim, device, functools.partial(display.note, lane))
            elif not complete:
                if not waited:
                    _log.info("waiting for the other processes of this race")
                    waited = True
                time.sleep(WAIT)
            if time.monotonic() - self.shown > SHOW:
                self._partial(display)

    def _in_company(self, display: Display) -> None:
        """Let worker processes run the jobs, and watch."""
        from precond.race.workers.crew import Crew

        with Crew(self.place, self.jobs, self.out) as crew:
            while True:
                if self._partial(display) and not self._grown():
                    return
                crew.check(self.ledger, self.plan)
                time.sleep(SHOW)

    def _grown(self) -> bool:
        """Whether somebody resumed this race with more methods, trials or seeds; then there is more to do."""
        header = self.ledger.header()
        options = self.plan.options if header is None else stored(header)
        if options == self.plan.options:
            return False
        self.plan = _resolve(options, self.objects)
        return not self.plan.advance(self.ledger)

    def _collect(self) -> RaceResult:
        result = collect(self.plan, self.ledger)
        result.options["jobs"] = self.jobs
        return result

    def _partial(self, display: Display) -> bool:
        """Show how far the race is, write it down now and then, and return whether it is complete."""
        result = self._collect()
        display.show(result)
        self.shown = time.monotonic()
        if time.monotonic() - self.written > PARTIAL:
            self._write(result)
            self.written = time.monotonic()
        return result.complete

    def _report(self, display: Display) -> RaceResult:
        from precond.race.report import write_report

        result = self._collect()
        display.show(result)
        self._write(result)
        with _clear(self.out):
            write_report(result, self.out)
        return result

    def _write(self, result: RaceResult) -> None:
        with _clear(self.out):
            result.write(self.out / folder.RESULTS)


def _resolve(options: Options, objects: dict[str, Problem]) -> Plan:
    device = check_device(options.device)
    loaded = {key: objects[key] if key in objects else known_problems.load(key) for key in options.problems}
    return make_plan(options, loaded, device)


def plan_of(ledger: Ledger) -> tuple[Plan, torch.device] | None:
    """Return the plan of the race in a ledger, with its device; ``None`` in an empty ledger."""
    header = ledger.header()
    if header is None:
        return None
    options = stored(header)
    return _resolve(options, {}), check_device(options.device)


def _plain(options: Options) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(options)


@contextlib.contextmanager
def _display(progress: bool, plan: Plan, jobs: int) -> Iterator[Display]:
    from precond.race import live

    with live.open_display(progress, plan, jobs) as display:
        yield display


@contextlib.contextmanager
def _clear(out: Path) -> Iterator[None]:
    """Say in one line what a broken disk did to a report."""
    try:
        yield
    except OSError as error:
        raise LedgerError(
            f"{out}: {error.strerror or error}; the finished runs are kept: go on with --resume once there is space"
        ) from error


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


__all__ = ["Lane", "listed_problems", "plan_of", "run"]
