"""Finds every concrete part of the library, so that a new part falls under the laws without being listed."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from typing import Any

import precond
from precond.core import Decay, Filter, Iteration, Method, Preconditioner, Route, Sketch, Storage
from precond.core.step import StepRule
from precond.recipes.registry import all_recipes
from tests.laws.examples import EXAMPLES

NOUNS = (Preconditioner, Filter, Decay, StepRule, Storage, Iteration, Sketch)


@functools.cache
def classes(noun: type) -> list[type]:
    """Return every concrete, public subclass of ``noun`` that the library defines."""
    for module in pkgutil.walk_packages(precond.__path__, "precond."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, queue = set(), [noun]
    while queue:
        for child in queue.pop().__subclasses__():
            queue.append(child)
            ours = child.__module__.startswith("precond.") and not child.__name__.startswith("_")
            if ours and not inspect.isabstract(child):
                found.add(child)
    return sorted(found, key=lambda cls: (cls.__module__, cls.__qualname__))


def examples(cls: type) -> list[Any]:
    """Return instances of a class: from the table of examples, or built without arguments; none if neither works."""
    if cls.__name__ in EXAMPLES:
        return EXAMPLES[cls.__name__]()
    required = [
        field.name
        for field in (dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ())
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING and field.init
    ]
    return [] if required else [cls()]


@functools.cache
def instances(noun: type) -> list[Any]:
    """Return examples of every part of a kind, and those that the recipes put together, each once."""
    found = [instance for cls in classes(noun) for instance in examples(cls)]
    for recipe in all_recipes().values():
        found += [part for part in _parts(recipe.build()) if isinstance(part, noun)]
    return list({repr(part): part for part in sorted(found, key=repr)}.values())


def _parts(built: Any) -> list[Any]:
    methods = [*(method for _, method in built.rules), built.default] if isinstance(built, Route) else [built]
    return [part for method in methods for part in (vars(method).values() if isinstance(method, Method) else [method])]


def name(part: Any) -> str:
    """Return a short name of a part or class, for the names of tests."""
    return part.__name__ if isinstance(part, type) else repr(part).replace(" ", "")[:90]
