"""The documentation is true: its code is run as a reader would run it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    return [text for found, text in BLOCK.findall((ROOT / page).read_text()) if found == language]


def run(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the documentation with the library found under ``cwd``."""
    env = {**os.environ, "PYTHONPATH": str(cwd / "src"), "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    program = {"precond": ["-m", "precond"], "python": []}[words[0]]
    return subprocess.run([sys.executable, *program, *words[1:]], cwd=cwd, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("number", range(4))
def test_examples_of_the_readme_run(number: int, tmp_path: Path) -> None:
    code = blocks("README.md", "python")
    assert len(code) == 4
    assert code[number].count("\n") <= 12, "ten lines or so"
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "example.py").write_text(code[number])
    done = run(["python", "example.py"], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["composite", "constraints", "groups", "minimize"])
def test_examples_of_a_page_run_one_after_another(page: str, tmp_path: Path) -> None:
    """Those of sharding.md are run by the tests of several processes, those of methods.md by the laws of recipes."""
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "example.py").write_text("\n".join(blocks(f"docs/{page}.md", "python")))
    done = run(["python", "example.py"], tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_committed_schema_is_the_rendered_one() -> None:
    from precond.race.results.schema import schema_page

    assert (ROOT / "docs" / "results-schema.md").read_text() == schema_page(), "run `make docs` and commit the page"


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_writing_a_method_works_as_written(tmp_path: Path) -> None:
    """A newcomer's copy of the repository, changed as the page says and nothing else."""
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    page = (ROOT / "docs" / "write-a-method.md").read_text()
    steps = 0
    for language, text in BLOCK.findall(page):
        if language == "python":
            path = tmp_path / text.partition("\n")[0].removeprefix("# ")
            assert path.suffix == ".py", f"a block must begin with the path of its file: {text[:60]}"
            path.write_text(text.partition("\n")[2])
            continue
        for line in text.splitlines():
            done = run(shlex.split(line.removeprefix("$ ")), tmp_path)
            assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            steps += 1
    assert steps >= 6
    for report in ("rmsprop", "valley", "size"):
        assert (tmp_path / f"race-report-{report}" / "report.html").is_file()
    written = [path for path in ("src/precond/recipes/rmsprop.py", "src/precond/preconditioners/largest.py")]
    checked = [*written, "tests/papers/test_rmsprop.py", "valley.py", "src/precond/problems/valley.py"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", *checked], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--no-cache", "--check", *checked],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
