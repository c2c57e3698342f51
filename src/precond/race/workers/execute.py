"""One job, from claim to record: whatever goes wrong inside a run ends that run, never the race."""

from __future__ import annotations

import logging
import math

import torch

from precond.race.ledger.heartbeat import Heartbeat
from precond.race.ledger.jobs import Claim
from precond.race.ledger.ledger import Ledger
from precond.race.plan import Lane
from precond.race.results.records import Run
from precond.race.runners import Failure, Note, runner_for

_log = logging.getLogger(__name__)


def execute(ledger: Ledger, lane: Lane, claim: Claim, device: torch.device, note: Note | None = None) -> Run:
    """Run a claimed job and write its record; an interrupt gives the job back.

    Args:
        ledger: Where the job was taken and the record goes.
        lane: Contestant and problem of the job.
        claim: The job.
        device: Where it runs.
        note: Takes a few words on how far the run is, now and then.

    Returns:
        The finished run.
    """
    job = claim.job
    run = Run(lane.contestant.name, claim.track.stage, job.slot, job.seed, dict(job.settings), state="running")
    try:
        with Heartbeat(ledger, claim) as heartbeat:

            def tell(text: str) -> None:
                heartbeat.note = text
                if note is not None:
                    note(text)

            _run(run, lane, device, tell)
    except BaseException:
        ledger.release(claim)
        raise
    ledger.finish(claim, run)
    return run


def _run(run: Run, lane: Lane, device: torch.device, note: Note) -> None:
    try:
        runner_for(lane.problem.kind).run(lane.problem, lane.contestant, run, lane.budget, device, note)
    except Failure as failure:
        run.state, run.reason = "failed", str(failure)
    except Exception as error:
        _log.debug("%s failed on %s", lane.contestant.name, lane.problem.name, exc_info=True)
        text = " ".join(str(error).split()) or "no message"
        run.state, run.reason = "failed", f"{type(error).__name__}: {text[:300]}"
    else:
        run.state = "complete"
        if run.final is None or not math.isfinite(run.final):
            run.state, run.reason = "failed", run.reason or "the final metric is not finite"
    if run.state == "failed":
        run.score = None
