"""Sketched Newton with tested accuracy: any inner solver, the same answer."""

from __future__ import annotations

import pytest
import torch

import precond
from precond.problems.classical import ALL
from precond.recipes.programs import sketched_newton


@pytest.mark.parametrize("inner", ["hessian-sketch", "sketch", "rows", "dense", "minres", "gmres"])
def test_any_inner_solver_reaches_the_same_point(inner: str) -> None:
    problem = ALL["hs79"]
    start = torch.tensor(problem.start, dtype=torch.float64)
    result = precond.minimize(
        problem.fun, start, constraints=problem.constraints, method=sketched_newton(inner=inner), tol=1e-5
    )
    assert result.converged, result.message
    assert float(problem.fun(result.x)) == pytest.approx(problem.optima[0], abs=1e-6)


def test_an_unknown_inner_solver_is_refused() -> None:
    with pytest.raises(precond.core.BadInputError, match="inner must be one of"):
        sketched_newton(inner="magic")
