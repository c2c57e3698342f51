"""Methods and preconditioners by name, however spelled, and by the names people look for them under."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, Builds, IncompatibleError, Kind, UnknownNameError
from precond.race.field.contestants import find
from precond.recipes.registry import all_recipes, match

A = np.diag([1.0, 2.0, 3.0, 4.0]) + 0.1
B = np.ones(4)
START = torch.ones(3, dtype=torch.float64)


def bowl(x: torch.Tensor) -> torch.Tensor:
    return (x**2).sum()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("GCRO-DR", "gcrodr"),
        ("gcro_dr", "gcrodr"),
        ("IDR(s)", "idr"),
        ("SSOR", "symmetric-sor"),
        ("block CG", "block-cg"),
    ],
)
def test_methods_however_spelled(given: str, name: str) -> None:
    result = precond.solve(A, B, method=given, max_iterations=1000)
    assert result.converged
    assert result.method.startswith(name)


@pytest.mark.parametrize(
    ("given", "name"),
    [("IC(0)", "ic0"), ("Nyström", "nystrom"), ("ilu", "ilut"), ("chebyshev", "chebyshev-polynomial")],
)
def test_preconditioners_however_spelled(given: str, name: str) -> None:
    result = precond.solve(A, B, method="gmres", preconditioner=given)
    assert result.converged
    assert f"gmres + {name}" in result.method
    assert precond.SolveSequence(method="gmres", preconditioner=given).solve(A, B).converged


def test_the_race_understands_the_same() -> None:
    contestant = find("CG+IC(0)", Kind.LINEAR_SYSTEM)
    assert not isinstance(contestant, str)
    assert contestant.name == "cg+ic0"


def test_no_alias_hides_a_name_or_another_alias_of_its_sort() -> None:
    recipes = all_recipes().values()
    for sort in Builds:
        known = [recipe for recipe in recipes if recipe.builds is sort]
        for recipe in known:
            for word in (recipe.name, *recipe.aliases):
                assert match(word, known) is recipe, word
                assert match(word, reversed(known)) is recipe, word


def test_what_is_no_name() -> None:
    with pytest.raises(UnknownNameError, match="gmres"):
        precond.solve(A, B, method="gmress")
    with pytest.raises(BadInputError, match="Iteration"):
        precond.solve(A, B, method=3)
    with pytest.raises(UnknownNameError):
        precond.SolveSequence(preconditioner="nothing of the sort")


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: precond.minimize(bowl, START, method="BFGS"), UnknownNameError, "nearest known: lbfgs"),
        (lambda: precond.minimize(bowl, START, method="gmres"), IncompatibleError, r"square systems \(precond.solve\)"),
        (lambda: precond.minimize(bowl, START, method="interior-point"), IncompatibleError, "with constraints"),
        (lambda: precond.minimize(bowl, START, method="jacobi"), IncompatibleError, "as a preconditioner"),
        (lambda: precond.least_squares(lambda x: x, START, method="trf"), UnknownNameError, "auto, .*nl2sol"),
        (lambda: precond.least_squares(lambda x: x, START, bounds=[(0, 1)] * 3), BadInputError, "not a pair for each"),
        (lambda: precond.fixed_point(lambda x: x, START, method="cg"), IncompatibleError, "use one of anderson"),
        (lambda: precond.fixed_point(lambda x: None, START), BadInputError, "returned NoneType"),
        (lambda: precond.solve(np.eye(3), np.ones(3), method=precond.krylov.CG), BadInputError, "class CG: call it"),
        (lambda: precond.SolveSequence(rtol="1e-8"), BadInputError, "are numbers"),
        (lambda: precond.optim.SOAP([START.clone()], lr="1e-3"), BadInputError, "lr must be a number"),
        (lambda: precond.optim.Optimizer([START.clone()], "soap"), BadInputError, r"recipes\.matrix\.soap\(\)"),
        (lambda: precond.estimate_memory(3, "soap"), BadInputError, "give a module"),
        (lambda: precond.recipes.matrix.soap(beta=0.9), TypeError, r"soap\(\) .*'beta'; it takes b1, b2"),
        (lambda: precond.operators.ToeplitzOperator("a"), BadInputError, "give a vector"),
        (lambda: precond.scipy.minimize(lambda x: x, np.ones(2)), BadInputError, "one number"),
        (lambda: precond.race.run("digits", [3]), BadInputError, "by name"),
        (lambda: precond.race.run("digits", ["adamw"], budget=30), BadInputError, "500steps"),
    ],
)
def test_typical_mistakes_are_answered_with_what_would_do(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_the_name_of_scipy_s_limited_memory_method_is_known():
    assert precond.minimize(bowl, START, method="L-BFGS-B").converged
