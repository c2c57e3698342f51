"""The worker processes of one race on this machine."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType

import precond
from precond.core import PrecondError
from precond.race.ledger.database import LedgerError
from precond.race.ledger.ledger import Ledger
from precond.race.machine import cores
from precond.race.plan import Plan

_log = logging.getLogger(__name__)
_CHANCES = 2
"""How often a job may take its process with it before it is recorded as failed."""


class Crew:
    """Starts workers, replaces those that die, and sends them home.

    Args:
        place: The ledger.
        jobs: How many workers.
        out: Folder for their logs.
    """

    def __init__(self, place: Path | str, jobs: int, out: Path) -> None:
        self._place, self._out = str(place), out
        self._threads = max(1, cores() // jobs)
        self._workers: list[subprocess.Popen[bytes]] = []
        self._jobs = jobs
        self._deaths: Counter[str] = Counter()

    def __enter__(self) -> Crew:
        """Start the workers."""
        for number in range(self._jobs):
            self._workers.append(self._start(number))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the workers' input, so that they give back what they hold, and wait for them."""
        for worker in self._workers:
            if worker.stdin is not None:
                worker.stdin.close()
        for number, worker in enumerate(self._workers):
            try:
                worker.wait(timeout=20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            log = self._file(number)
            if log.exists() and not log.read_bytes().strip():
                log.unlink()

    def check(self, ledger: Ledger, plan: Plan) -> None:
        """Replace workers that died; a job that kills its process twice is recorded as failed.

        Args:
            ledger: The ledger of the race.
            plan: Its plan.
        """
        for number, worker in enumerate(self._workers):
            code = worker.poll()
            if code is None:
                continue
            if code == 0:  # it found nothing more to do, but somebody has asked for more since
                self._workers[number] = self._start(number)
                continue
            if code > 0:
                lines = self._file(number).read_text(encoding="utf-8", errors="replace").strip().splitlines()
                last = lines[-1] if lines else f"exit code {code}"
                if code == 2:
                    raise LedgerError(last)
                raise PrecondError(f"a worker process failed: {last} (see {self._file(number)})")
            _log.warning("a worker process was ended by signal %d", -code)
            for lane in plan.lanes:
                for stage in ("tuning", "final"):
                    for job in ledger.held_by(lane.track(stage), worker.pid):
                        self._deaths[f"{lane.track(stage).study}{job.key}"] += 1
                        if self._deaths[f"{lane.track(stage).study}{job.key}"] >= _CHANCES:
                            ledger.give_up(lane.track(stage), job, f"its process was ended by signal {-code} twice")
            self._workers[number] = self._start(number)

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        source = str(Path(precond.__file__).parents[1])
        path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
        threads = str(self._threads)
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        with self._file(number).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "precond.race.workers.worker", self._place, threads],
                stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip

    def _file(self, number: int) -> Path:
        return self._out / f"worker-{number}.log"
