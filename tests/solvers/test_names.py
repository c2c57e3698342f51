"""Methods and preconditioners by name, however spelled, and by the names people look for them under."""

from __future__ import annotations

import numpy as np
import pytest

import precond
from precond.core import BadInputError, Builds, Kind, UnknownNameError
from precond.race.field.contestants import find
from precond.recipes.registry import all_recipes, match

A = np.diag([1.0, 2.0, 3.0, 4.0]) + 0.1
B = np.ones(4)


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
