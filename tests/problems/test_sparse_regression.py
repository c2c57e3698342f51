"""The sparse regression of the race."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import precond
from precond.core import BadInputError
from precond.problems import load


def test_the_seed_draws_the_data_and_zero_is_not_stationary() -> None:
    problem = load("sparse-regression:columns=40,samples=30,nonzeros=4")
    first, again, other = (problem.build(seed, torch.device("cpu")) for seed in (0, 0, 1))
    assert float(first.fun(first.x0)) == float(again.fun(again.x0)) != float(other.fun(other.x0))
    result = precond.minimize(first.fun, first.x0, penalty=first.penalty)
    assert result.converged
    assert 0 < result.certificate.extra["support"] < 40
    with pytest.raises(BadInputError, match="l1, scad or mcp"):
        load("sparse-regression:penalty=l2")


def test_it_races(tmp_path: Path) -> None:
    race = precond.race.run(
        "sparse-regression:columns=40,samples=30,nonzeros=4,penalty=mcp",
        ["prox-newton", "proximal-gradient", "lbfgs"], trials=1, seeds=1, budget="100steps", out=tmp_path / "race",
    )  # fmt: skip
    table = race.table()
    assert set(table["contestant"]) == {"prox-newton", "proximal-gradient"}
    finals = dict(zip(table["contestant"], table["final"], strict=True))
    assert finals["prox-newton"] <= 1e-6
