"""The ledger: every job of a race and every finished run, in one database that survives a kill.

Optuna is the store: one study for each problem, contestant and stage, one trial for each job. A job is
a trial in state WAITING; a process takes it (RUNNING), signs a lease and renews it, and writes the whole
`Run` as one JSON attribute before the trial is told. So at any moment a job is either done, with its record, or
can be done again: a trial whose holder has died is closed without a record and its job is queued afresh.
Any number of processes and machines may work on one ledger.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from precond.core import BadInputError, Range
from precond.race.ledger import lease
from precond.race.ledger.database import one_line, open_storage
from precond.race.ledger.interrupts import deferred
from precond.race.ledger.jobs import Claim, Job, Track
from precond.race.ledger.spaces import distributions, shown
from precond.race.results.records import Run
from precond.race.results.result import SCHEMA, finite

_log = logging.getLogger(__name__)
_HEADER = "precond race"
_ATTEMPTS = 6


@dataclasses.dataclass
class Ledger:
    """The store of one race; open it with `open_ledger`."""

    storage: optuna.storages.BaseStorage
    place: str
    _studies: dict[Track, optuna.Study] = dataclasses.field(default_factory=dict)
    _held: set[tuple[Track, int]] = dataclasses.field(default_factory=set)
    _watch: lease.Watch = dataclasses.field(default_factory=lease.Watch)

    def header(self) -> dict[str, Any] | None:
        """Return what the race was created with, or ``None`` in an empty ledger; refuses a newer schema."""
        with self._told():
            try:
                attributes = optuna.load_study(study_name=_HEADER, storage=self.storage).user_attrs
            except KeyError:
                return None
        schema = attributes.get("schema", 0)
        if schema > SCHEMA:
            raise BadInputError(
                f"{self.place}: a race of schema {schema}, this version knows up to {SCHEMA}; upgrade precond or race "
                "into another --out (the old data are untouched)"
            )
        return dict(attributes["options"]) if "options" in attributes else None

    def write_header(self, options: Mapping[str, Any]) -> None:
        """Write what the race is created with, or grow it."""
        with self._told(), deferred():
            study = optuna.create_study(study_name=_HEADER, storage=self.storage, load_if_exists=True)
            study.set_user_attr("schema", SCHEMA)
            study.set_user_attr("options", dict(options))

    def ensure(self, track: Track, jobs: Sequence[Job], space: Mapping[str, Range] | None = None) -> None:
        """Queue every job that is neither waiting, running nor done; jobs of the dead are queued afresh."""
        with self._told():
            known = {Job.of(trial.user_attrs).key for trial in self._trials(track) if self._counts(track, trial)}
            study = self._study(track)
            for job in jobs:
                if job.key not in known:
                    with deferred():
                        study.enqueue_trial(
                            shown(job.settings, space or {}), user_attrs={"job": dataclasses.asdict(job)}
                        )

    def claim(self, track: Track, jobs: Sequence[Job], space: Mapping[str, Range] | None = None) -> Claim | None:
        """Take one waiting job among ``jobs``, or return ``None`` when there is none."""
        wanted = {job.key for job in jobs}
        with self._told():
            study = self._study(track)
            while any(trial.state == TrialState.WAITING for trial in self._trials(track)):
                with deferred():
                    claim = self._take(track, study, wanted, space or {})
                if claim is not None:
                    return claim
        return None

    def _take(self, track: Track, study: optuna.Study, wanted: set[str], space: Mapping[str, Range]) -> Claim | None:
        trial = study.ask()
        if "job" not in trial.user_attrs:  # somebody else emptied the queue: what was made is an empty trial
            study.tell(trial, state=TrialState.FAIL)
            return None
        job = Job.of(trial.user_attrs)
        others = (other for other in self._trials(track) if other.number != trial.number)
        twin = any(self._counts(track, other) and Job.of(other.user_attrs).key == job.key
                   and (other.state != TrialState.WAITING) for other in others)  # fmt: skip
        if twin or job.key not in wanted:
            study.tell(trial, state=TrialState.FAIL)
            return None
        signed = lease.sign()
        trial.set_user_attr("lease", signed)
        self._held.add((track, trial.number))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values outside of a range are meant: the defaults are a trial too
            for name, distribution in distributions(job.settings, space).items():
                if isinstance(distribution, optuna.distributions.FloatDistribution):
                    trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
                else:
                    trial.suggest_categorical(name, distribution.choices)
        return Claim(track, job, trial, signed)

    def finish(self, claim: Claim, run: Run) -> None:
        """Write a finished run; does nothing when the claim was taken over meanwhile."""
        with self._told(), deferred():
            record = json.loads(run_json(run))
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                claim.trial.set_user_attr("record", record)
                self._tell(claim.track, claim.trial.number, run.state, run.score)
            self._held.discard((claim.track, claim.trial.number))

    def release(self, claim: Claim) -> None:
        """Give a job back unfinished, so that anybody can take it at once."""
        with self._told(), deferred():
            self._study(claim.track).tell(claim.trial.number, state=TrialState.FAIL, skip_if_finished=True)
            self._held.discard((claim.track, claim.trial.number))

    def beat(self, claim: Claim, note: str) -> None:
        """Renew the lease of a claim, with a word on how far the run is."""
        claim.lease.update(beat=claim.lease["beat"] + 1, note=note)
        with self._told(), contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            claim.trial.set_user_attr("lease", dict(claim.lease))

    def runs(self, track: Track) -> list[Run]:
        """Return every run of a track: finished ones, and those that wait or run with that state."""
        with self._told():
            trials = self._trials(track)
        runs = []
        for trial in trials:
            if "record" in trial.user_attrs:
                runs.append(Run(**trial.user_attrs["record"]))
            elif "job" in trial.user_attrs and not trial.state.is_finished():
                job = Job.of(trial.user_attrs)
                state = "running" if trial.state == TrialState.RUNNING else "waiting"
                note = trial.user_attrs.get("lease", {}).get("note", "")
                runs.append(
                    Run(track.contestant, track.stage, job.slot, job.seed, dict(job.settings), state=state, reason=note)
                )
        return runs

    def held_by(self, track: Track, pid: int) -> list[Job]:
        """Return the jobs that a process of this machine holds."""
        with self._told():
            trials = [trial for trial in self._trials(track) if trial.state == TrialState.RUNNING]
        mine = [trial for trial in trials if trial.user_attrs.get("lease", {}).get("pid") == pid
                and trial.user_attrs["lease"].get("host") == lease.host()]  # fmt: skip
        return [Job.of(trial.user_attrs) for trial in mine]

    def give_up(self, track: Track, job: Job, reason: str) -> None:
        """Record a job as failed on behalf of whoever held it."""
        run = Run(track.contestant, track.stage, job.slot, job.seed, dict(job.settings), state="failed", reason=reason)
        with self._told(), deferred():
            study = self._study(track)
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.FAIL,
                    user_attrs={"job": dataclasses.asdict(job), "record": json.loads(run_json(run))},
                )
            )

    def _counts(self, track: Track, trial: FrozenTrial) -> bool:
        """Whether a trial stands for its job: it waits, is being run by somebody alive, or has a record."""
        if "job" not in trial.user_attrs:
            return False
        if trial.state == TrialState.WAITING or (trial.state.is_finished() and "record" in trial.user_attrs):
            return True
        if trial.state != TrialState.RUNNING:
            return False
        signed = trial.user_attrs.get("lease")
        own = signed is not None and signed.get("pid") == os.getpid() and signed.get("host") == lease.host()
        dropped = own and (track, trial.number) not in self._held  # by this process, in an earlier race
        if dropped or not self._watch.alive((track, trial.number), signed):
            record = trial.user_attrs.get("record")
            _log.info("%s: slot %s was abandoned", track.study, trial.user_attrs["job"]["slot"])
            with deferred():
                if record is not None:  # killed between the record and the last word
                    self._tell(track, trial.number, record["state"], record["score"])
                else:
                    self._study(track).tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            return record is not None
        return True

    def _tell(self, track: Track, number: int, state: str, score: float | None) -> None:
        if state == "complete" and score is not None and math.isfinite(score):
            self._study(track).tell(number, score, skip_if_finished=True)
        else:
            self._study(track).tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _trials(self, track: Track) -> list[FrozenTrial]:
        return self._study(track).get_trials(deepcopy=False)

    def _study(self, track: Track) -> optuna.Study:
        if track not in self._studies:
            with deferred():
                self._studies[track] = optuna.create_study(
                    study_name=track.study, storage=self.storage, load_if_exists=True
                )
        return self._studies[track]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        with one_line(self.place):
            yield


def open_ledger(place: Path | str) -> Ledger:
    """Open or create the ledger of a race.

    Args:
        place: A SQLite file, or the URL of an Optuna storage.

    Returns:
        The ledger; an empty one when there was none.

    Raises:
        LedgerError: When it cannot be read or written.
    """
    return Ledger(open_storage(place), str(place))


def run_json(run: Run) -> str:
    """Return a run as strict JSON: what is not finite becomes ``null``."""
    return json.dumps(finite(dataclasses.asdict(run)), allow_nan=False)
