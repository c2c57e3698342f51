"""The registry that recipes fill by declaring themselves, and that race, catalogue and cli read."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from precond.core import Builds, Kind, Paper, PrecondError, Range, Recipe, UnknownNameError
from precond.recipes.checked import numbers_checked

_registry: dict[str, Recipe] = {}
_declared = [0]  # how many times a recipe was declared
F = TypeVar("F", bound=Callable[..., Any])


def recipe(
    *,
    builds: Builds,
    runs_on: Kind | frozenset[Kind],
    family: str,
    paper: Paper,
    purpose: str,
    claim: str,
    example: str,
    name: str = "",
    space: Mapping[str, Range] | None = None,
    lr: float | None = None,
    weight_decay: float = 0.0,
    companion: str = "",
    aliases: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Declare the decorated function as a recipe; see `Recipe` for the fields.

    The name is the function's, with hyphens, unless given. Arguments that should be numbers are checked to be numbers.
    """
    kinds = runs_on if isinstance(runs_on, frozenset) else frozenset({runs_on})

    def declare(build: F) -> F:
        known = name or build.__name__.replace("_", "-")
        if known in _registry and _registry[known].build.__module__ != build.__module__:
            raise PrecondError(f"two recipes are named {known!r}: give one of them a name")
        build = numbers_checked(build)
        _declared[0] += 1
        _registry[known] = Recipe(
            name=known, build=build, builds=builds, runs_on=kinds, family=family, paper=paper, purpose=purpose,
            claim=claim, example=example, space=dict(space or {}), lr=lr, weight_decay=weight_decay,
            companion=companion, aliases=aliases,
        )  # fmt: skip
        return build

    return declare


def all_recipes() -> dict[str, Recipe]:
    """Return every recipe by name, importing all modules of this package first."""
    _import_all()
    return dict(sorted(_registry.items()))


def version() -> tuple[int, int]:
    """Return what changes when the recipes do, for whoever keeps what was found."""
    _import_all()
    return len(_registry), _declared[0]


def find(name: str) -> Recipe:
    """Return the recipe named ``name``, or say which names are near."""
    _import_all()
    found = _registry.get(name) or match(name, all_recipes().values())
    if found is None:
        raise UnknownNameError("method", name, _registry)
    return found


def match(name: str, among: Iterable[Recipe]) -> Recipe | None:
    """Return the recipe that ``name`` means, however it is spelled: ``"GCRO-DR"``, ``"gcro_dr"``, ``"IC(0)"``.

    Args:
        name: A name or an alias; case, hyphens, underscores, spaces, brackets and accents do not matter.
        among: The recipes that can be meant.

    Returns:
        The recipe, by its name before its aliases, or ``None``.
    """
    wanted, known = _spelling(name), list(among)
    by_name = next((recipe for recipe in known if _spelling(recipe.name) == wanted), None)
    return by_name or next((recipe for recipe in known if wanted in map(_spelling, recipe.aliases)), None)


@functools.cache
def _spelling(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.lower())
    return "".join(letter for letter in plain if letter.isalnum())


@functools.cache
def _import_all() -> None:
    package = importlib.import_module("precond.recipes")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"precond.recipes.{module.name}")


def with_defaults(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe's default settings with ``settings`` on top."""
    return {**recipe.defaults, **settings}


__all__ = ["all_recipes", "find", "match", "recipe", "version", "with_defaults"]
