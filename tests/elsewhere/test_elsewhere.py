"""Whatever runs on the processor runs on another device, mixes no devices, and seldom waits for it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from precond.core import Kind
from precond.recipes.registry import all_recipes

RECIPES = all_recipes()


def outcomes(group: str) -> dict[str, dict[str, Any]]:
    """Return what came of every case of a group; they all run in one process, since the device is there for good."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "src"), str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, "-m", "tests.elsewhere.cases", group], cwd=root, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PRECOND_BFLOAT16": "0"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found = {line["name"]: line for line in map(json.loads, run.stdout.splitlines())}
    failed = [f"{name}: {line['error']} {line['at']}" for name, line in found.items() if "error" in line]
    assert not failed, "\n".join(failed)
    return found


def test_methods_take_the_same_steps_on_another_device_and_seldom_wait_for_it() -> None:
    found = outcomes("optimizers")
    assert set(found) == {name for name, recipe in RECIPES.items() if Kind.TRAINING in recipe.runs_on}
    for name, line in found.items():
        assert line["gap"] < 1e-3, name  # products in bfloat16, which one device has alone, are switched off
        ordinary = min(line["waits"][1:], key=len)  # a step without a refresh
        assert len(ordinary) == 1, (name, ordinary)
        assert "optim/trust.py" in ordinary[0], name


def test_systems_are_solved_on_another_device() -> None:
    found = outcomes("linear")
    assert set(found) > {name for name, recipe in RECIPES.items() if Kind.LINEAR_SYSTEM in recipe.runs_on}
    for name, line in found.items():
        assert line["there"], f"{name}: the solution should lie where the matrix lies"
        assert line["status"].startswith("CONVERGED"), name
        assert line["residual"] < (1e-4 if "single" in name else 1e-7), name
    for name in ("auto", "auto, not symmetric", "lu", "many columns", "a batch"):
        assert max(found[name]["brought"], default=0) < 60 * 60, f"{name}: the matrix was brought to the processor"


def test_what_is_not_finite_on_another_device_is_left_alone() -> None:
    for name, line in outcomes("survival").items():
        assert line["skipped"] == line["bad"], name
        assert all(map(math.isfinite, line["norms"])), name
        assert line["moved"] == [not bad for bad in line["spoiled"]], name
