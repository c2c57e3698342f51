"""One entry per recipe: what it declares about itself, what its parts say, and what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from precond.catalogue.measured import Measured, measurements
from precond.catalogue.memory import Memory, memory_of
from precond.core import (
    Builds,
    CompositeIteration,
    FixedPointIteration,
    Iteration,
    Kind,
    Need,
    Paper,
    ProgramIteration,
    Recipe,
    Route,
    UnknownNameError,
)
from precond.recipes.registry import all_recipes

WORDS = {
    Need.GRADIENT: "a gradient each step",
    Need.PREVIOUS: "the gradient of the step before (kept by the driver)",
    Need.PROBE: "products of the Hessian with random vectors",
    Need.LOSS: "the value of the loss",
    Need.SECANT: "pairs of differences of points and gradients",
    Need.OPERATOR: "products with the matrix or the Hessian",
    Need.ENTRIES: "the entries of the matrix",
    Need.ADJOINT: "products with the transposed matrix",
    Need.ROOT: "the matrix of a least-squares problem",
    Need.REPLAY: "a closure that evaluates the objective again",
    Need.ANOTHER: "the gradient of another batch at the same weights (a closure that draws a batch, evaluated twice)",
    Need.LOOKBACK: "the gradient of the same batch at the weights of the step before (a closure, evaluated twice)",
}
"""Each need in the words of the catalogue."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One method of the catalogue.

    Attributes:
        name: Its name on the command line.
        family: Its shelf.
        builds: ``"method"``, ``"iteration"`` or ``"preconditioner"``.
        kinds: Kinds of problem it runs on.
        paper: Where it was published.
        purpose: What it is for.
        needs: What it must be fed, in words.
        memory: State it keeps, counted.
        claim: The paper's headline claim.
        measured: What we measured of it; ``None`` when nothing was measured yet.
        example: How to call it.
        text: Equations and deviations, as the recipe's docstring has them.
    """

    name: str
    family: str
    builds: str
    kinds: tuple[str, ...]
    paper: Paper
    purpose: str
    needs: tuple[str, ...]
    memory: Memory
    claim: str
    measured: Measured | None
    example: str
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON types; its keys are the attributes, documented above."""
        return dataclasses.asdict(self)

    def mentions(self, words: str) -> bool:
        """Whether every word of ``words`` occurs somewhere in the entry, letter case aside."""
        own = [self.name, self.family, self.builds, *self.kinds, self.purpose, *self.needs, self.claim, self.text]
        paper = [self.paper.title, self.paper.authors, str(self.paper.year), self.paper.arxiv, self.paper.venue]
        text = " ".join([*own, *paper, self.measured.finding if self.measured else ""]).lower()
        return all(word in text for word in words.lower().split())


def entries(*, search: str = "", family: str = "", kind: str = "") -> list[Entry]:
    """Return the catalogue, one entry per recipe, by family and name.

    Args:
        search: Words that must all occur in the entry.
        family: Only this family.
        kind: Only methods that run on this kind of problem.

    Returns:
        The entries, possibly none.

    Raises:
        UnknownNameError: When no recipe has that family or kind.
    """
    recipes = all_recipes().values()
    families = {recipe.family for recipe in recipes}
    if family and family not in families:
        raise UnknownNameError("family", family, families)
    if kind and kind not in {known.value for known in Kind}:
        raise UnknownNameError("kind of problem", kind, [known.value for known in Kind])
    chosen = [
        recipe
        for recipe in sorted(recipes, key=lambda recipe: (recipe.family, recipe.name))
        if family in ("", recipe.family) and (not kind or Kind(kind) in recipe.runs_on)
    ]
    return [entry for entry in _describe(chosen) if entry.mentions(search)]


def _describe(recipes: Iterable[Recipe]) -> list[Entry]:
    measured = measurements()
    return [_entry(recipe, measured.get(recipe.name)) for recipe in recipes]


def _entry(recipe: Recipe, measured: Measured | None) -> Entry:
    built = recipe.build()
    return Entry(
        name=recipe.name,
        family=recipe.family,
        builds=recipe.builds.value,
        kinds=tuple(kind.value for kind in Kind if kind in recipe.runs_on),
        paper=recipe.paper,
        purpose=recipe.purpose,
        needs=tuple(_needs(built, recipe.builds)),
        memory=memory_of(built),
        claim=recipe.claim,
        measured=measured,
        example=recipe.example,
        text=recipe.text,
    )


def _needs(built: Any, builds: Builds) -> list[str]:
    needs = Need.NOTHING
    for part in _parts(built):
        needs |= part.needs
    if builds is Builds.METHOD:
        needs |= Need.GRADIENT
    words = [WORDS[need] for need in WORDS if need in needs]
    if isinstance(built, Iteration):
        words += _conditions(built)
    if isinstance(built, CompositeIteration) and built.separable:
        words.append("a penalty that is a sum over the variables")
    if isinstance(built, FixedPointIteration):
        words.append("a nonexpansive map")
    if isinstance(built, ProgramIteration) and not built.bounds:
        words.append("equations alone, no bounds or inequalities")
    return words


def _parts(built: Any) -> list[Any]:
    return [*(method for _, method in built.rules), built.default] if isinstance(built, Route) else [built]


def _conditions(iteration: Iteration) -> list[str]:
    """Say what an iteration asks of the matrix and the preconditioner."""
    conditions = {
        "a square matrix": iteration.square and not iteration.symmetric_operator,
        "a symmetric matrix": iteration.symmetric_operator and not iteration.definite_operator,
        "a symmetric positive definite matrix": iteration.symmetric_operator and iteration.definite_operator,
        "a symmetric positive definite preconditioner": iteration.symmetric_preconditioner,
        "a linear, fixed preconditioner": iteration.fixed_preconditioner and not iteration.symmetric_preconditioner,
    }
    return [words for words, holds in conditions.items() if holds]
