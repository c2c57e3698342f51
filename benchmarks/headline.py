"""What measurements of the papers' claims share: where they declare themselves, and how they race and count."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import precond
from precond.race.results.records import Interval, Standing

TRIALS, SEEDS = 6, 3

Finding = tuple[str, dict[str, float]]
Measurement = Callable[[], dict[str, Finding]]
HEADLINES: dict[str, Measurement] = {}
"""The measurement of each recipe; several recipes may share one."""


def headline(*recipes: str) -> Callable[[Measurement], Measurement]:
    """Declare the decorated function as the measurement of these recipes."""

    def declare(measure: Measurement) -> Measurement:
        HEADLINES.update(dict.fromkeys(recipes, measure))
        return measure

    return declare


def race(problem: str, names: list[str]) -> dict[str, Standing]:
    """Return how each method does on a problem, tuned with as many trials each."""
    with tempfile.TemporaryDirectory() as folder:
        result = precond.race.run(problem, names, trials=TRIALS, seeds=SEEDS, out=Path(folder) / "race")
    return {row.contestant: row for row in result.problems[0].standings}


def right_hand_side(matrix: Any) -> torch.Tensor:
    """Return normal numbers, as many as the matrix has rows."""
    return torch.randn(matrix.shape[0], generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def iterations(matrix: Any, b: torch.Tensor, method: str, preconditioner: str) -> int:
    """Return the iterations to the tolerance; -1 when it was not met."""
    result = precond.solve(matrix, b, method=method, preconditioner=preconditioner, rtol=1e-8)
    return result.iterations if result.converged else -1


def around(value: Interval | None) -> str:
    """Return a mean with its interval."""
    if value is None:
        return "not finite"
    return f"{value.mean:.3g}" + (f" ({value.low:.3g} to {value.high:.3g})" if value.low is not None else "")


def numbers(row: Standing) -> dict[str, float]:
    """Return what a contestant got to, by name."""
    values: dict[str, float] = {"solved": row.solved, "seeds": row.seeds}
    for name in ("final", "steps_to_target"):
        interval = getattr(row, name)
        if interval is not None:
            values |= {name: interval.mean}
            values |= {f"{name}_low": interval.low, f"{name}_high": interval.high} if interval.low is not None else {}
    return values
