import os
import subprocess
import sys
from pathlib import Path

import pytest

import precond

TOYS = Path(__file__).with_name("toys.py")


def toy(name):
    return f"{TOYS}:{name}"


def arguments(*words):
    return [sys.executable, "-m", "precond", "race", *map(str, words)]


def environment(**more):
    source = str(Path(precond.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "COLUMNS": "160", **more}


@pytest.fixture
def race(tmp_path):
    """Run the command line as a user does; returns the finished process."""

    def run(*words, **more):
        return subprocess.run(
            arguments(*words), cwd=tmp_path, env=environment(**more), capture_output=True, text=True, timeout=150
        )

    return run


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run the command line in this process, which saves the imports; returns ``(exit code, output)``."""
    from typer.testing import CliRunner

    from precond.cli import _app

    monkeypatch.chdir(tmp_path)

    def run(*words):
        done = CliRunner().invoke(_app("race"), ["race", *map(str, words)])
        return done.exit_code, " ".join(done.output.split())

    return run


@pytest.fixture
def without_report(monkeypatch):
    """Leave the report out where a test is not about it: drawing takes longer than the race."""
    monkeypatch.setattr("precond.race.report.write_report", lambda result, out: None)


def outcome(result):
    """What must not depend on kills, order or clocks: settings, scores, final values and steps."""
    return {
        (problem.name, run.contestant, run.stage, run.slot): (
            run.seed, run.settings, run.state, run.score, run.final, run.steps_to_target, run.steps, run.work
        )
        for problem in result.problems
        for run in problem.runs
    }  # fmt: skip
