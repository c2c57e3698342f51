"""A contestant: a method with the space it is tuned over, and what its recipe builds for a runner."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from precond.core import Range


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A method with the space it is tuned over.

    Attributes:
        name: As on the command line.
        title: What it is, in a few words.
        space: What a tuner may vary.
        defaults: The default of every dimension.
        build: Returns, from settings, what the runner of the problem's kind races: parts for a recipe,
            a function for a rival.
        rival: Whether it is another library's.
    """

    name: str
    title: str
    space: Mapping[str, Range]
    defaults: Mapping[str, Any]
    build: Callable[[Mapping[str, Any]], Any]
    rival: bool = False


@dataclasses.dataclass(frozen=True)
class Pair:
    """What a linear recipe builds: an iteration with its preconditioner, or without."""

    iteration: Any
    preconditioner: Any | None = None


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What a training or smooth recipe builds: a method with the optimizer's own settings."""

    method: Any
    lr: float | None
    weight_decay: float
