"""Iterations and preconditioners for linear problems, by the names of their recipes."""

from __future__ import annotations

from typing import Any

from precond.core import BadInputError, Builds, Iteration, Kind, Preconditioner, UnknownNameError
from precond.recipes.registry import all_recipes


def build_iteration(method: str | Iteration, kind: Kind = Kind.LINEAR_SYSTEM) -> Iteration:
    """Return an iteration, built if it is given by name."""
    if isinstance(method, Iteration):
        return method
    return _build(method, Builds.ITERATION, kind, "method", "an Iteration such as precond.krylov.CG()")


def build_preconditioner(preconditioner: str | Preconditioner[Any]) -> Preconditioner[Any]:
    """Return a preconditioner, built if it is given by name."""
    if isinstance(preconditioner, Preconditioner):
        return preconditioner
    expected = "a Preconditioner such as precond.preconditioners.ic0.IC0()"
    return _build(preconditioner, Builds.PRECONDITIONER, None, "preconditioner", expected)


def _build(name: Any, builds: Builds, kind: Kind | None, what: str, expected: str) -> Any:
    """Build the recipe of this name and sort with its defaults."""
    if not isinstance(name, str):
        raise BadInputError(f"{what} is a {type(name).__name__}: give a name or {expected}")
    known = {
        recipe.name: recipe
        for recipe in all_recipes().values()
        if recipe.builds is builds and (kind is None or kind in recipe.runs_on)
    }
    if name not in known:
        raise UnknownNameError(what, name, [*known, "auto"])
    return known[name].build()


def name_of(part: Any) -> str:
    """Return the name that a part was given by, or that of its class."""
    return part if isinstance(part, str) else type(part).__name__
