"""The command line as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from precond.recipes.registry import all_recipes


def precond(*words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "precond", *words], capture_output=True, text=True, cwd=cwd,
        env={**os.environ, "COLUMNS": "160", **env},
    )  # fmt: skip


def test_help_teaches_by_example() -> None:
    done = precond("--help")
    assert done.returncode == 0
    for text in ("precond race", "precond methods", "precond problems", "Examples"):
        assert text in done.stdout


@pytest.mark.parametrize("command", ["race", "solve", "methods", "problems"])
def test_every_command_teaches_by_example(command: str) -> None:
    done = precond(command, "--help")
    assert done.returncode == 0
    assert done.stdout.count(f"precond {command}") >= 2


def test_version() -> None:
    done = precond("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("precond ")


def test_an_unknown_command_names_the_nearest() -> None:
    done = precond("mehtods")
    assert done.returncode == 2
    assert "methods" in done.stderr


def test_methods_lists_every_recipe() -> None:
    done = precond("methods")
    assert done.returncode == 0
    for name in all_recipes():
        assert name in done.stdout


def test_methods_as_json() -> None:
    done = precond("methods", "--json")
    data = json.loads(done.stdout)
    assert {entry["name"] for entry in data} == set(all_recipes())
    keys = [
        "name",
        "family",
        "builds",
        "kinds",
        "paper",
        "purpose",
        "needs",
        "memory",
        "claim",
        "measured",
        "example",
        "text",
    ]
    assert all(list(entry) == keys for entry in data)


def test_one_method_in_full() -> None:
    done = precond("methods", "adamw")
    assert done.returncode == 0
    for text in ("Decoupled Weight Decay", "bytes per parameter", "Deviations"):
        assert text in done.stdout


def test_a_method_is_found_however_it_is_spelled() -> None:
    assert precond("methods", "IC(0)").stdout.startswith("ic0 ")


def test_search_needs_every_word() -> None:
    found = json.loads(precond("methods", "--json", "--search", "conjugate gradients").stdout)
    assert "cg" in [entry["name"] for entry in found]
    assert json.loads(precond("methods", "--json", "--search", "conjugate xyzzy").stdout) == []
    done = precond("methods", "--search", "xyzzy")
    assert done.returncode == 0
    assert "No method has --search 'xyzzy'" in done.stdout
    assert (
        "No method has --family 'krylov' --kind 'training'"
        in precond("methods", "--family", "krylov", "--kind", "training").stdout
    )


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("methods", "--family", "krilov"), "krylov"),
        (("methods", "--kind", "trainig"), "training"),
        (("methods", "soup"), "soap"),
    ],
)
def test_unknown_names_list_the_nearest(words: tuple[str, ...], near: str) -> None:
    done = precond(*words)
    assert done.returncode == 2
    assert near in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_errors_are_one_line_unless_debugging() -> None:
    done = precond("race", "no-such-problem")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" in precond("race", "no-such-problem", PRECOND_DEBUG="1").stderr
    assert "Traceback" in precond("--debug", "race", "no-such-problem").stderr


def test_problems_are_listed() -> None:
    done = precond("problems")
    assert done.returncode == 0
    assert "digits" in done.stdout


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    from precond import cli

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("precond.catalogue.command.problems", interrupted)
    with pytest.raises(SystemExit) as end:
        cli.main(["problems"])
    assert end.value.code == 130
