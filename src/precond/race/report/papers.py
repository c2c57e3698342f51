"""The papers of the contestants, from what the recipes declare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from precond.core import Paper
from precond.recipes.registry import all_recipes

Papers = Mapping[str, tuple[Paper, ...]]


def known_papers(contestants: Iterable[str]) -> Papers:
    """Return the papers behind each contestant: one for each recipe in a name such as ``cg+ic0``, none for rivals."""
    recipes = all_recipes()
    return {
        name: tuple(dict.fromkeys(recipes[part].paper for part in name.split("+") if part in recipes))
        for name in contestants
    }
