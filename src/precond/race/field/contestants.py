"""Who races: names become contestants, or are refused with the reason before anything runs."""

from __future__ import annotations

import dataclasses
import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from precond.core import Builds, IncompatibleError, Kind, PrecondError, Problem, Recipe, UnknownNameError
from precond.race.field import admission
from precond.race.field.contestant import Contestant, Pair, Tuned
from precond.race.field.rivals import RIVALS, Rival
from precond.recipes.registry import all_recipes, match

_log = logging.getLogger(__name__)

DEFAULTS = {
    Kind.TRAINING: ("sgd", "adamw", "adan", "lion", "muon", "shampoo", "soap", "torch.optim.AdamW"),
    Kind.LINEAR_SYSTEM: (
        "cg", "cg+jacobi", "cg+ssor", "cg+ic0", "minres", "gmres", "gmres+jacobi", "gmres+ssor", "scipy.cg",
        "scipy.gmres",
    ),
    Kind.LEAST_SQUARES: ("lsqr", "scipy.lsqr"),
    Kind.SMOOTH: ("lbfgs", "newton-cg", "regularized-newton", "adamw", "scipy.L-BFGS-B"),
    Kind.COMPOSITE: (
        "prox-newton", "fista", "accelerated-gradient", "proximal-gradient", "block-descent", "coordinate-descent",
    ),
}  # fmt: skip
"""Who races when nobody is named, by kind of problem."""

_ALONE = (Builds.METHOD, Builds.ITERATION, Builds.COMPOSITE)
"""What races by itself, without a partner."""

_WHAT = {
    Kind.TRAINING: "trains a network",
    Kind.SMOOTH: "minimizes a smooth function",
    Kind.LINEAR_SYSTEM: "solves a square linear system",
    Kind.LEAST_SQUARES: "solves a linear least-squares problem",
    Kind.PROGRAM: "minimizes under constraints",
    Kind.COMPOSITE: "minimizes a smooth function plus a penalty",
    Kind.FIXED_POINT: "finds fixed points",
}


@dataclasses.dataclass(frozen=True)
class Field:
    """Everybody who races on one problem.

    Attributes:
        contestants: In the order they were named.
        skipped: The refused ones, with the reason.
    """

    contestants: list[Contestant]
    skipped: dict[str, str]


def field(problem: Problem, names: Sequence[str] | None, device: torch.device) -> Field:
    """Resolve names on a problem and refuse whoever cannot run on it.

    Args:
        problem: What is raced on.
        names: Names of recipes, pairs and rivals; ``None`` for the defaults of the problem's kind.
        device: Where it is raced.

    Returns:
        Contestants and refusals.

    Raises:
        UnknownNameError: A name that nobody has.
        IncompatibleError: Nobody is left.
    """
    chosen = DEFAULTS[problem.kind] if names is None else tuple(dict.fromkeys(names))
    if names is None:
        known = known_names()
        missing = [name for name in chosen if name not in known]
        if missing:
            _log.info("not in this version: %s", ", ".join(missing))
        chosen = tuple(name for name in chosen if name in known)
    contestants, skipped = [], {}
    for name in chosen:
        contestant = find(name, problem.kind)
        reason = contestant if isinstance(contestant, str) else admission.refusal(problem, contestant, device)
        if reason:
            skipped[name] = reason
            _log.info("%s: %s is refused: %s", problem.name, name, reason)
        else:
            assert isinstance(contestant, Contestant)
            contestants.append(contestant)
    if not contestants:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items()) or "nobody was named"
        raise IncompatibleError(f"nobody can race on {problem.name}: {reasons}")
    return Field(contestants, skipped)


def known_names() -> list[str]:
    """Return every name that can race on some problem."""
    recipes = all_recipes()
    iterations = [name for name, recipe in recipes.items() if recipe.builds is Builds.ITERATION]
    parts = [name for name, recipe in recipes.items() if recipe.builds is Builds.PRECONDITIONER]
    pairs = [f"{iteration}+{part}" for iteration in iterations for part in parts]
    alone = [name for name, recipe in recipes.items() if recipe.builds in _ALONE]
    return [*alone, *pairs, *RIVALS]


def find(name: str, kind: Kind) -> Contestant | str:
    """Return the contestant called ``name`` on problems of a kind, or the reason why it cannot race there."""
    if name in RIVALS:
        return _rival(RIVALS[name], kind)
    recipes = all_recipes()
    first, plus, second = name.partition("+")
    if plus:
        iteration = match(first, (each for each in recipes.values() if each.builds is not Builds.PRECONDITIONER))
        part = match(second, (each for each in recipes.values() if each.builds is Builds.PRECONDITIONER))
        if iteration is not None and part is not None:
            return _pair(iteration, part, kind)
    recipe = None if plus else match(name, recipes.values())
    if recipe is None:
        raise UnknownNameError("method", name, _near(name, known_names()))
    name = recipe.name
    if recipe.builds is Builds.PRECONDITIONER:
        return f"a preconditioner is raced with an iteration: write {_iteration_for(recipes, kind)}+{name}"
    if kind not in recipe.runs_on:
        return _wrong_kind(recipe.runs_on, kind)
    if recipe.builds is Builds.ITERATION:
        return Contestant(
            name, recipe.purpose, recipe.space, recipe.defaults, lambda settings: Pair(recipe.build(**settings))
        )
    space = {key: value for key, value in recipe.space.items() if kind is Kind.TRAINING or key != "weight_decay"}
    defaults = {key: recipe.defaults[key] for key in space}
    return Contestant(name, recipe.purpose, space, defaults, lambda settings: _tuned(recipe, settings))


def _near(name: str, known: Sequence[str]) -> list[str]:
    """Prefer names that share a word, then similar ones, so that pairs do not crowd out the rest."""
    short = [entry for entry in known if "+" not in entry] if "+" not in name else list(known)
    return difflib.get_close_matches(name, short, n=3, cutoff=0.3) or short


def _tuned(recipe: Recipe, settings: Mapping[str, Any]) -> Tuned:
    own = dict(settings)
    lr = own.pop("lr", recipe.lr)
    weight_decay = own.pop("weight_decay", recipe.weight_decay)
    return Tuned(recipe.build(**own), lr, weight_decay)


def _pair(iteration: Recipe, part: Recipe, kind: Kind) -> Contestant | str:
    if iteration.builds is not Builds.ITERATION or part.builds is not Builds.PRECONDITIONER:
        return "a pair is written iteration+preconditioner, such as cg+ic0"
    if kind not in iteration.runs_on:
        return _wrong_kind(iteration.runs_on, kind)
    if kind not in part.runs_on:
        return f"{part.name} {_wrong_kind(part.runs_on, kind)}"
    prefix = f"{part.name}."

    def build(settings: Mapping[str, Any]) -> Pair:
        own = {key: value for key, value in settings.items() if not key.startswith(prefix)}
        parts = {key[len(prefix) :]: value for key, value in settings.items() if key.startswith(prefix)}
        return Pair(iteration.build(**own), part.build(**parts))

    space = {**iteration.space, **{prefix + key: value for key, value in part.space.items()}}
    defaults = {**iteration.defaults, **{prefix + key: value for key, value in part.defaults.items()}}
    return Contestant(
        f"{iteration.name}+{part.name}", f"{iteration.purpose} With: {part.purpose}", space, defaults, build
    )


def _rival(rival: Rival, kind: Kind) -> Contestant | str:
    if kind not in rival.runs_on:
        return _wrong_kind(rival.runs_on, kind)
    return Contestant(rival.name, rival.title, rival.space, rival.defaults, rival.build, rival=True)


def _wrong_kind(own: frozenset[Kind], kind: Kind) -> str:
    known = ", ".join(name for name in DEFAULTS[kind] if name in known_names())
    does = " or ".join(_WHAT[each] for each in sorted(own, key=lambda each: each.value))
    return f"it {does}, but this problem {_ASKS[kind]}; {known} can run here"


_ASKS = {
    Kind.TRAINING: "is stochastic training of a network",
    Kind.SMOOTH: "is a smooth function to minimize",
    Kind.LINEAR_SYSTEM: "is a square linear system",
    Kind.LEAST_SQUARES: "is a linear least-squares problem",
    Kind.PROGRAM: "has constraints",
    Kind.COMPOSITE: "has a penalty",
    Kind.FIXED_POINT: "asks for a fixed point",
}


def _iteration_for(recipes: Mapping[str, Recipe], kind: Kind) -> str:
    names = [name for name, recipe in recipes.items() if recipe.builds is Builds.ITERATION and kind in recipe.runs_on]
    return next(iter(names), "cg")


__all__ = ["DEFAULTS", "Contestant", "Field", "Pair", "PrecondError", "Tuned", "field", "find", "known_names"]
