"""Iterations and preconditioners for linear problems, by the names of their recipes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from precond.core import (
    BadInputError,
    Builds,
    IncompatibleError,
    Iteration,
    Kind,
    Preconditioner,
    Recipe,
    UnknownNameError,
)
from precond.recipes.registry import all_recipes, match, version

_sorts = {Builds.METHOD: "method for optimizers and minimize", Builds.ITERATION: "method (an iteration)"}
_problems = {
    Kind.TRAINING: "training (precond.optim)",
    Kind.SMOOTH: "precond.minimize without constraints or penalties",
    Kind.PROGRAM: "precond.minimize with constraints",
    Kind.COMPOSITE: "precond.minimize with a penalty",
    Kind.FIXED_POINT: "precond.fixed_point",
    Kind.LINEAR_SYSTEM: "square systems (precond.solve)",
    Kind.LEAST_SQUARES: "least squares (precond.lstsq)",
}


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
    if isinstance(name, type):
        raise BadInputError(f"{what} is the class {name.__name__}: call it, as in {expected}")
    if not isinstance(name, str):
        raise BadInputError(f"{what} is a {type(name).__name__}: give a name or {expected}")
    found = find_part(name, builds, kind, what)
    return found.build()


def find_part(name: str, builds: Builds, kind: Kind | None, what: str) -> Recipe:
    """Return the recipe of a sort that a name means, or say which names are near; what was found is kept."""
    return _found(name, builds, kind, what, version())


@functools.lru_cache(maxsize=256)
def _found(name: str, builds: Builds, kind: Kind | None, what: str, version: tuple[int, int]) -> Recipe:
    """Look among all recipes; the version stands for them."""
    known = [
        recipe
        for recipe in all_recipes().values()
        if recipe.builds is builds and (kind is None or kind in recipe.runs_on)
    ]
    found = match(name, known)
    if found is None:
        raise UnknownNameError(what, name, [*(recipe.name for recipe in known), "auto"], _elsewhere(name, builds))
    return found


def find_method(name: str, builds: Builds, fitting: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a sort that a name means, for problems that are not linear.

    Args:
        name: A name or an alias, however spelled.
        builds: The sort.
        fitting: Names to choose from instead; those of the sort unless given.

    Returns:
        The recipe.

    Raises:
        UnknownNameError: Nothing has that name.
        IncompatibleError: What has it is of another sort; the message says what it is for.
    """
    recipes = all_recipes().values()
    found = match(name, recipes)
    if found is not None and found.builds is builds:
        return found
    names = fitting or [recipe.name for recipe in recipes if recipe.builds is builds]
    if found is None:
        raise UnknownNameError("method", name, [*names, "auto"])
    raise IncompatibleError(f"{name!r} is for {_purposes(found)}: use one of {', '.join(names)}")


def _purposes(recipe: Recipe) -> str:
    """Return what a recipe is for, in the words of the calls that take it."""
    if recipe.builds is Builds.PRECONDITIONER:
        return "linear systems, as a preconditioner"
    return " and ".join(sorted(_problems[kind] for kind in recipe.runs_on))


def _elsewhere(name: str, builds: Builds) -> str:
    """Return what a name means that is asked for in the wrong place; nothing where it means nothing."""
    other = match(name, all_recipes().values())
    if other is None:
        return ""
    if other.builds is not builds:
        return f"{other.name} is a {_sorts.get(other.builds, other.builds.value)}"
    return f"{other.name} is for {_purposes(other)}"


def canonical_method(method: str | Iteration, kind: Kind = Kind.LINEAR_SYSTEM) -> str | Iteration:
    """Return a method given by name, however spelled, by the name of its recipe; parts and ``"auto"`` as they are."""
    if not isinstance(method, str):
        return build_iteration(method, kind)  # refuses anything but an iteration
    if method == "auto":
        return method
    return find_part(method, Builds.ITERATION, kind, "method").name


def canonical_preconditioner(preconditioner: str | Preconditioner[Any]) -> str | Preconditioner[Any]:
    """Return a preconditioner given by name, however spelled, by the name of its recipe; others as they are."""
    if not isinstance(preconditioner, str):
        return build_preconditioner(preconditioner)  # refuses anything but a preconditioner
    if preconditioner == "auto":
        return preconditioner
    return find_part(preconditioner, Builds.PRECONDITIONER, None, "preconditioner").name


def name_of(part: Any) -> str:
    """Return the name that a part was given by, or that of its class."""
    return part if isinstance(part, str) else type(part).__name__
