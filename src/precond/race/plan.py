"""The plan of a race: which runs there are to be, and which of them can be taken next."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from precond.core import BadInputError, Budget, Problem
from precond.race.field.contestant import Contestant
from precond.race.field.contestants import DEFAULTS, Field, field, known_names
from precond.race.ledger.jobs import Claim, Job, Track
from precond.race.ledger.ledger import Ledger
from precond.race.options import Options
from precond.race.results.records import Run
from precond.race.tuning import FIRST_FINAL_SEED, TUNING_SEED, trial_settings


@dataclasses.dataclass(frozen=True)
class Lane:
    """One contestant on one problem.

    Attributes:
        key: The problem as it was named.
        problem: The problem.
        contestant: The contestant.
        budget: Horizon of one run.
        tuning: The tuning trials; none when there is nothing to tune.
        seeds: How many final runs.
    """

    key: str
    problem: Problem
    contestant: Contestant
    budget: Budget
    tuning: tuple[Job, ...]
    seeds: int
    _settled: dict[tuple[str, ...], list[Run]] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def track(self, stage: str) -> Track:
        """Where the runs of a stage are kept."""
        return Track(self.key, self.contestant.name, stage)

    def finals(self, settings: Mapping[str, Any]) -> list[Job]:
        """The runs of one setting over fresh seeds, the same seeds for every contestant."""
        return [Job(slot, FIRST_FINAL_SEED + slot, dict(settings)) for slot in range(self.seeds)]

    def records(self, ledger: Ledger, stage: str, jobs: Sequence[Job]) -> list[Run]:
        """Return one run for each job that is known: the finished one when there is one, in the order of jobs.

        What has ended does not change: once all have, the ledger is not read again.
        """
        wanted = {job.key: position for position, job in enumerate(jobs)}
        name = (stage, *wanted)
        if name in self._settled:
            return self._settled[name]
        found: dict[int, Run] = {}
        for run in ledger.runs(self.track(stage)):
            position = wanted.get(Job(run.slot, run.seed, run.settings).key)
            if position is not None and (position not in found or not found[position].ended):
                found[position] = run
        runs = [found[position] for position in sorted(found)]
        if len(runs) == len(jobs) and all(run.ended for run in runs):
            self._settled[name] = runs
        return runs

    def chosen(self, tuning: Sequence[Run]) -> dict[str, Any] | None:
        """Return the best setting once every trial has ended, the defaults when all have failed; ``None`` before."""
        if not self.tuning:
            return {}
        if len(tuning) < len(self.tuning) or not all(run.ended for run in tuning):
            return None
        scores = [(run.score, run.slot, run.settings) for run in tuning if run.score is not None]
        return min(scores, key=lambda entry: entry[:2])[2] if scores else dict(self.tuning[0].settings)


@dataclasses.dataclass
class Plan:
    """Every lane of a race.

    Attributes:
        options: The options of the race.
        fields: Contestants and refusals by problem.
        problems: The problems by the name they were given.
        lanes: One per contestant and problem.
    """

    options: Options
    problems: dict[str, Problem]
    fields: dict[str, Field]
    lanes: list[Lane]

    def advance(self, ledger: Ledger) -> bool:
        """Queue what can be run now; return whether every run of the race has ended."""
        complete = True
        for lane in self.lanes:
            settings = lane.chosen(lane.records(ledger, "tuning", lane.tuning))
            if settings is None:
                ledger.ensure(lane.track("tuning"), lane.tuning, lane.contestant.space)
                complete = False
                continue
            jobs = lane.finals(settings)
            finals = lane.records(ledger, "final", jobs)
            if len(finals) < len(jobs) or not all(run.ended for run in finals):
                ledger.ensure(lane.track("final"), jobs, lane.contestant.space)
                complete = False
        return complete

    def claim(self, ledger: Ledger) -> tuple[Lane, Claim] | None:
        """Take the next job: every contestant's first trial, then every second one, so that all advance together."""
        candidates: list[tuple[tuple[bool, int, int], Lane, str, Sequence[Job]]] = []
        for position, lane in enumerate(self.lanes):
            tuning_jobs = lane.tuning
            tuning = lane.records(ledger, "tuning", tuning_jobs)
            jobs: Sequence[Job] = tuning_jobs
            stage, runs = "tuning", tuning
            settings = lane.chosen(tuning)
            if settings is not None:
                jobs = lane.finals(settings)
                stage, runs = "final", lane.records(ledger, "final", jobs)
            waiting = [run for run in runs if run.state == "waiting"]
            if waiting:
                taken = len(runs) - len(waiting)
                candidates.append(((stage == "final", taken, position), lane, stage, jobs))
        for _, lane, stage, jobs in sorted(candidates, key=lambda entry: entry[0]):
            claim = ledger.claim(lane.track(stage), jobs, lane.contestant.space)
            if claim is not None:
                return lane, claim
        return None

    def take(self, ledger: Ledger) -> tuple[bool, tuple[Lane, Claim] | None]:
        """Return whether every run has ended, and the next job when there is one to take now."""
        taken = self.claim(ledger)
        if taken is not None:
            return False, taken
        return self.advance(ledger), self.claim(ledger)

    def size(self) -> tuple[int, int]:
        """Return how many tuning trials and final runs there are to be."""
        tuning = sum(len(lane.tuning) for lane in self.lanes)
        return tuning, sum(lane.seeds for lane in self.lanes)


def make_plan(options: Options, problems: Mapping[str, Problem], device: torch.device) -> Plan:
    """Resolve every name and refuse who cannot run, before anything runs.

    Args:
        options: The options of the race.
        problems: The problems by the name they were given.
        device: Where it is raced.

    Returns:
        The plan.
    """
    names = [problem.name for problem in problems.values()]
    if len(set(names)) < len(names):
        raise BadInputError(f"two problems share a name ({', '.join(names)}): race them one by one")
    fields, lanes = {}, []
    for key, problem in problems.items():
        fields[key] = field(problem, _named(options, problem), device)
        budget = Budget.parse(options.budget) if options.budget else problem.horizon
        for contestant in fields[key].contestants:
            points = trial_settings(contestant.name, contestant.space, contestant.defaults, options.trials)
            tuning = tuple(Job(slot, TUNING_SEED, settings) for slot, settings in enumerate(points))
            lanes.append(Lane(key, problem, contestant, budget, tuning, options.seeds))
    return Plan(options, dict(problems), fields, lanes)


def _named(options: Options, problem: Problem) -> list[str] | None:
    if not options.defaults or not options.methods:
        return options.names()
    known = known_names()
    return list(dict.fromkeys([*(n for n in DEFAULTS[problem.kind] if n in known), *options.methods]))
