"""Published methods, each a short composition of parts. One file per family."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def __getattr__(name: str) -> Any:
    """Import a family on first use: ``precond.recipes.matrix.soap()``."""
    if name in __dir__():
        return importlib.import_module(f"precond.recipes.{name}")
    raise AttributeError(f"module 'precond.recipes' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the families."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
