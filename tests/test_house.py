"""The house around the code: imports stay light, versions are pinned, files of the build are there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"scipy", "numba", "optuna", "plotly", "sklearn", "pandas", "matplotlib", "rich", "typer"}


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after running ``code``."""
    report = "\nimport sys; print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(done.stdout.split("MODULES ")[1].split())


@pytest.mark.parametrize("module", ["precond", "precond.core", "precond.optim"])
def test_importing_is_cheap(module: str) -> None:
    assert not modules_after(f"import {module}") & HEAVY


def test_the_package_itself_does_not_import_torch() -> None:
    assert "torch" not in modules_after("import precond; precond.__version__")


@pytest.mark.parametrize("what", ["core.Method", "recipes.matrix.soap"])
def test_subpackages_load_on_first_use(what: str) -> None:
    assert "torch" in modules_after(f"import precond; precond.{what}")


@pytest.mark.parametrize("words", [["--help"], ["--version"], []])
def test_listing_the_commands_does_not_import_torch(words: list[str]) -> None:
    code = f"from precond.cli import main\ntry:\n    main({words!r})\nexcept SystemExit:\n    pass"
    assert "torch" not in modules_after(code)


def test_public_names_are_listed_and_exist() -> None:
    import precond

    assert {"solve", "lstsq", "minimize"} <= set(dir(precond))
    with pytest.raises(AttributeError, match="no attribute 'sovle'"):
        precond.sovle


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {re.split(r"[\[<>=!~ ]", line)[0] for line in [*project["dependencies"], *extras["race"], *extras["dev"]]}
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in pins), "one exact version per line"
    assert wanted <= {pin.partition("==")[0] for pin in pins}
    assert "torch==2.13.0" in pins


def test_make_explains_itself() -> None:
    done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("make race", "make test", "make lint", "make clean"):
        assert target in done.stdout


def test_an_old_python_is_refused_with_the_remedy(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "venv", f"PYTHON={old}", f"VENV={tmp_path}/venv"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "3.11 or newer" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_files_that_scripts_call_are_there() -> None:
    for name in ("Makefile", ".ci/run", "constraints.txt", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"):
        assert (ROOT / name).is_file(), name
    assert (ROOT / ".ci/run").stat().st_mode & 0o111, ".ci/run must be executable"
    assert "make test" in (ROOT / ".ci/run").read_text()
