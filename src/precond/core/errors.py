"""Errors that name their remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PrecondError(Exception):
    """Base of every error this library raises on purpose."""


class BadInputError(PrecondError, ValueError):
    """An argument or a file cannot be used as it is; the message says what would do."""


class IncompatibleError(PrecondError, ValueError):
    """Two things that were asked to work together cannot; the message names a pair that can."""


class RefreshError(PrecondError, RuntimeError):
    """Refreshes failed more often in a row than is tolerated; the message says what to change."""


class UnknownNameError(PrecondError, KeyError, ValueError):
    """A name that no registry holds; the message lists the nearest known ones.

    It is a `ValueError`, too, as SciPy raises for a ``method`` that it does not know.

    Args:
        kind: What was looked up, in the singular ("method", "problem").
        name: The name that was not found.
        known: Every name that would have been found.
        hint: What the name means elsewhere, if anything.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4) or known[:8]
        why = f": {hint}" if hint else ""
        super().__init__(f"unknown {kind} {name!r}{why}; nearest known: {', '.join(near)}")

    def __str__(self) -> str:  # KeyError would show the repr of the message
        """Return the message itself."""
        return str(self.args[0])
