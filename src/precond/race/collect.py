"""From the ledger to a `RaceResult`, at any moment of the race."""

from __future__ import annotations

from collections.abc import Sequence

from precond.core import Kind
from precond.race.ledger.jobs import Job
from precond.race.ledger.ledger import Ledger
from precond.race.machine import machine, versions
from precond.race.plan import Lane, Plan
from precond.race.results.records import ProblemResult, Run
from precond.race.results.result import RaceResult
from precond.race.results.standings import ranked, standing
from precond.race.tuning import describe


def collect(plan: Plan, ledger: Ledger) -> RaceResult:
    """Return everything known so far.

    Args:
        plan: The plan of the race.
        ledger: Its ledger.

    Returns:
        The result; ``complete`` when every run has ended.
    """
    results, complete = [], True
    for key, problem in plan.problems.items():
        lanes = [lane for lane in plan.lanes if lane.key == key]
        rows, runs = [], []
        for lane in lanes:
            tuning = lane.records(ledger, "tuning", lane.tuning)
            settings = lane.chosen(tuning)
            jobs = [] if settings is None else lane.finals(settings)
            finals = lane.records(ledger, "final", jobs) if jobs else []
            complete &= sum(run.ended for run in finals) == lane.seeds
            space = {name: describe(value) for name, value in lane.contestant.space.items()}
            rows.append(standing(lane.contestant.name, tuning, finals, lane.contestant.title, space))
            runs += [*tuning, *_missing(lane, "tuning", lane.tuning, tuning)]
            runs += [*finals, *_missing(lane, "final", jobs, finals)]
        results.append(
            ProblemResult(
                name=problem.name,
                kind=problem.kind.value,
                description=problem.description,
                metric=problem.metric.name,
                unit=problem.metric.unit,
                log=problem.metric.log,
                target=problem.target,
                budget=plan.options.budget or str(problem.horizon),
                standings=ranked(rows, by_time=problem.kind is not Kind.TRAINING),
                runs=runs,
                skipped=dict(plan.fields[key].skipped),
            )
        )
    return RaceResult(
        problems=results,
        options=plan.options.public(),
        complete=complete,
        created=plan.options.created,
        command=plan.options.command,
        machine=machine(plan.options.device),
        versions=versions(),
    )


def _missing(lane: Lane, stage: str, jobs: Sequence[Job], runs: Sequence[Run]) -> list[Run]:
    """Return the runs that are to be and are not queued yet."""
    known = {run.slot for run in runs}
    waiting = (job for job in jobs if job.slot not in known)
    return [Run(lane.contestant.name, stage, job.slot, job.seed, dict(job.settings)) for job in waiting]
