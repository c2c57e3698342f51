"""What to try, in which order: what an automatic choice is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

FEWEST = 16
"""Iterations below which none are tried before the factors of a dense matrix."""


@dataclasses.dataclass(frozen=True)
class Attempt:
    """Names of an iteration and a preconditioner.

    Attributes:
        method: Name of the iteration.
        preconditioner: Name of the preconditioner.
        settings: Arguments of the preconditioner's recipe.
        patience: Iterations after which to try the next, or to give up, if the user gave no limit; zero: no such limit.
        together: Neither is taken without the other.
        negative: Both are for ``-A x = -b``.
        unasked: Taken only where neither is named.
    """

    method: str
    preconditioner: str
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    patience: int = 0
    together: bool = False
    negative: bool = False
    unasked: bool = False


@dataclasses.dataclass(frozen=True)
class Selection:
    """What to try, in this order, and why.

    Attributes:
        attempts: The first, then what to try when those before failed.
        reason: Why, in one clause.
    """

    attempts: tuple[Attempt, ...]
    reason: str
