"""The registry that problems fill by declaring themselves, and that ``load`` and the command line read."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from precond.core import PrecondError, Problem, UnknownNameError

F = TypeVar("F", bound=Callable[..., Problem])


@dataclasses.dataclass(frozen=True)
class Entry:
    """One named problem.

    Attributes:
        name: Its name on the command line, lower case with hyphens.
        make: Returns the problem. A first parameter ``path`` takes ``name:PATH``, the others ``name:key=value,...``.
        purpose: One sentence: what is to be solved.
        example: How it is named on the command line.
        recognises: Whether a bare path is of this problem, from the path and the first (decompressed) bytes.
        general: Takes almost any file, so that a bare path is tried on it last.
    """

    name: str
    make: Callable[..., Problem]
    purpose: str
    example: str
    recognises: Callable[[Path, bytes], bool] | None = None
    general: bool = False

    @property
    def takes_path(self) -> bool:
        """Whether the problem can be made from a file or folder."""
        return "path" in inspect.signature(self.make).parameters

    @property
    def needs_path(self) -> bool:
        """Whether it cannot be made without one."""
        path = inspect.signature(self.make).parameters.get("path")
        return path is not None and path.default is inspect.Parameter.empty

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``name:key=value`` with their defaults."""
        parameters = inspect.signature(self.make).parameters
        return {name: p.default for name, p in parameters.items() if name != "path"}


_registry: dict[str, Entry] = {}


def problem(
    *,
    purpose: str,
    example: str,
    name: str = "",
    recognises: Callable[[Path, bytes], bool] | None = None,
    general: bool = False,
) -> Callable[[F], F]:
    """Declare the decorated factory as a problem; see `Entry` for the fields.

    The name is the function's, with hyphens, unless given.
    """

    def declare(make: F) -> F:
        known = name or make.__name__.replace("_", "-")
        if known in _registry and _registry[known].make.__module__ != make.__module__:
            raise PrecondError(f"two problems are named {known!r}: give one of them a name")
        _registry[known] = Entry(known, make, purpose, example, recognises, general)
        return make

    return declare


def all_problems() -> dict[str, Entry]:
    """Return every problem by name, importing all modules of this package first."""
    package = importlib.import_module("precond.problems")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"precond.problems.{module.name}")
    return dict(sorted(_registry.items()))


def find(name: str) -> Entry:
    """Return the problem named ``name``, or say which names are near."""
    known = all_problems()
    if name not in known:
        raise UnknownNameError("problem", name, known)
    return known[name]


__all__ = ["Entry", "all_problems", "find", "problem"]
