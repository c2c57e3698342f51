"""A race that is killed or interrupted loses no finished run, and goes on to the same result."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import precond
from precond.race.harness import plan_of
from precond.race.ledger.ledger import open_ledger
from precond.race.results.result import RaceResult
from tests.race.conftest import arguments, environment, outcome, toy

pytestmark = pytest.mark.usefixtures("without_report")

METHODS = ["adamw", "torch.optim.SGD"]
OPTIONS = ["--methods", ",".join(METHODS), "--trials", "3", "--seeds", "2"]


def begin(folder, *words, pause="0.01"):
    return subprocess.Popen(
        arguments(toy("slow"), *OPTIONS, "--out", folder, *words), env=environment() | {"PRECOND_TEST_PAUSE": pause},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip


def finished(folder):
    """The records in the ledger of a race that may still be going on."""
    path = Path(folder) / "race.sqlite3"
    if not path.exists():
        return []
    ledger = open_ledger(path)
    resolved = plan_of(ledger)
    if resolved is None:
        return []
    lanes = resolved[0].lanes
    tracks = [lane.track(stage) for lane in lanes for stage in ("tuning", "final")]
    return [run for track in tracks for run in ledger.runs(track) if run.ended]


def wait_for(folder, count, process, limit=120):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        runs = finished(folder)
        if len(runs) >= count:
            return runs
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("the race did not get far enough")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "race"
    return precond.race.run(toy("slow"), METHODS, trials=3, seeds=2, out=out)


@pytest.mark.parametrize(("count", "words"), [(4, ["--jobs", "1"]), (3, ["--jobs", "2"])])
def test_killed_and_resumed_is_as_never_killed(tmp_path, undisturbed, count, words):
    process = begin(tmp_path / "race", *words, pause="0.1")  # there is something left to do when it is killed
    before = wait_for(tmp_path / "race", count, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    resumed = precond.race.run(out=tmp_path / "race", resume=True)
    assert resumed.complete
    assert outcome(resumed) == outcome(undisturbed)
    # finished runs were kept, not run again: their seconds are the ones of before the kill
    kept = {(run.contestant, run.stage, run.slot): run.seconds for run in resumed.problems[0].runs}
    for run in before:
        assert kept[run.contestant, run.stage, run.slot] == run.seconds


def test_interrupt_keeps_what_is_done_and_says_how_to_go_on(tmp_path, undisturbed):
    process = begin(tmp_path / "race", "--jobs", "1", pause="0.1")
    wait_for(tmp_path / "race", 2, process)
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=90)[0]
    assert process.returncode == 130, text
    assert "precond race --resume" in text
    assert "Traceback" not in text
    partial = RaceResult.read(tmp_path / "race" / "results.json")
    assert not partial.complete
    assert (tmp_path / "race" / "report.html").exists()
    assert outcome(precond.race.run(out=tmp_path / "race", resume=True)) == outcome(undisturbed)


def test_two_processes_share_one_race(tmp_path, undisturbed):
    url = f"sqlite:///{tmp_path}/shared.sqlite3"
    both = [begin(tmp_path / name, "--storage", url, "--resume", "--jobs", "1") for name in ("one", "two")]
    texts = [process.communicate(timeout=150)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    for name in ("one", "two"):
        assert outcome(RaceResult.read(tmp_path / name / "results.json")) == outcome(undisturbed)


def test_a_job_whose_worker_dies_is_run_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PRECOND_TEST_MARK", str(tmp_path / "died"))
    result = precond.race.run(toy("deadly"), ["adamw"], trials=2, seeds=2, jobs=2, out=tmp_path / "race")
    assert (tmp_path / "died").exists()
    assert result.complete
    assert {run.state for run in result.problems[0].runs} == {"complete"}


def test_a_resumed_race_may_grow_and_reuses_its_runs(tmp_path, undisturbed):
    small = precond.race.run(toy("slow"), METHODS[:1], trials=2, seeds=1, out=tmp_path / "race")
    grown = precond.race.run(methods=METHODS, trials=3, seeds=2, out=tmp_path / "race", resume=True)
    assert outcome(grown) == outcome(undisturbed)
    seconds = {(run.contestant, run.stage, run.slot): run.seconds for run in grown.problems[0].runs}
    tuning = [run for run in small.problems[0].runs if run.stage == "tuning"]
    assert all(seconds[run.contestant, run.stage, run.slot] == run.seconds for run in tuning)
