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


@pytest.mark.parametrize("name", ["hs61", "byrdsphr", "powellsq"])
def test_a_start_where_the_jacobian_is_singular_is_left_behind(name: str) -> None:
    problem = ALL[name]
    start = torch.tensor(problem.start, dtype=torch.float64)
    result = precond.minimize(problem.fun, start, constraints=problem.constraints, method="sketched-newton", tol=1e-6)
    assert result.converged, result.message
    assert min(abs(float(problem.fun(result.x)) - optimum) for optimum in problem.optima) <= 1e-5


def test_inner_solvers_that_ask_for_full_rank_get_it_elsewhere() -> None:
    problem = ALL["byrdsphr"]
    start = torch.tensor(problem.start, dtype=torch.float64)
    method = sketched_newton(inner="dense")
    result = precond.minimize(problem.fun, start, constraints=problem.constraints, method=method, tol=1e-6)
    assert result.converged, result.message


def test_equations_that_no_point_meets_are_infeasible() -> None:
    start = torch.zeros(3, dtype=torch.float64)
    result = precond.minimize(
        lambda x: ((x - 1) ** 2).sum(), start, constraints=lambda x: torch.stack([x.sum() - 1, x.sum() - 2]),
        method="sketched-newton", tol=1e-6,
    )  # fmt: skip
    assert result.status is precond.core.Status.FAILED_INFEASIBLE
    assert float(result.x.sum()) == pytest.approx(1.5, abs=1e-4)
