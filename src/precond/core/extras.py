"""Packages that only an extra brings, and what to say when one is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from precond.core.errors import PrecondError

EXTRAS = {"pyamg": "amg", "optuna": "race", "plotly": "race", "matplotlib": "race", "pandas": "race", "sklearn": "race"}
"""The extra that brings each optional package, by the package's import name."""


class MissingExtraError(PrecondError, ImportError):
    """An optional package is not installed; the message says how to install it."""


def require(module: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Args:
        module: Import name, also of a submodule ("sklearn.datasets").

    Returns:
        The module.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        message = missing(error)
        if not message:
            raise
        raise MissingExtraError(message) from error


def missing(error: ModuleNotFoundError) -> str:
    """Return what to say about a package that is missing; empty when no extra brings it."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return ""
    return f"{package} is not installed: pip install 'precond[{EXTRAS[package]}]'"
