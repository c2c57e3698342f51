"""What is said when an optional package is missing: which extra brings it, in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from precond.core import MissingExtraError, require

HIDE = "import sys; sys.modules['{name}'] = None; "


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"precond\[race\]"):
        require("sklearn.datasets")


def test_a_package_that_no_extra_brings_is_its_own_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        require("nowhere_at_all")


def test_the_command_line_says_it_in_one_line() -> None:
    code = HIDE.format(name="optuna") + "from precond.cli import main; main(['race', 'digits', '--out', 'never-made'])"
    done = run(code)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: optuna is not installed: pip install 'precond[race]'"


def test_from_python_it_is_an_error_with_the_remedy() -> None:
    code = HIDE.format(name="optuna") + "import precond; precond.race.run"
    done = run(code)
    assert done.returncode == 1
    assert "MissingExtraError" in done.stderr
    assert "precond[race]" in done.stderr
