"""What a recipe declares about itself: the one record behind catalogue, race and command line."""

from __future__ import annotations

import dataclasses
import enum
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from precond.core.space import Range


class Kind(enum.Enum):
    """What kind of problem there is to solve, or kind of thing a recipe builds."""

    TRAINING = "training"
    """Stochastic training of a module: batches, an evaluation, a horizon."""
    SMOOTH = "smooth"
    """A deterministic smooth objective with gradients and Hessian-vector products."""
    LINEAR_SYSTEM = "linear-system"
    """A square system ``A x = b``."""
    LEAST_SQUARES = "least-squares"
    """A linear least-squares problem ``min ||A x - b||``."""
    PROGRAM = "program"
    """A smooth objective under equations and inequalities."""
    COMPOSITE = "composite"
    """A smooth objective plus a penalty with a proximal map."""
    FIXED_POINT = "fixed-point"
    """A point that a nonexpansive map leaves alone."""


class Builds(enum.Enum):
    """What a recipe returns."""

    METHOD = "method"
    """A `Method` (or `Route`) for `optim.Optimizer` or `minimize`."""
    ITERATION = "iteration"
    """An `Iteration` for `solve` or `lstsq`."""
    PRECONDITIONER = "preconditioner"
    """A `Preconditioner` for `solve`, written ``iteration+preconditioner`` in a race."""
    PROGRAM = "program"
    """A `ProgramIteration` for `minimize` with constraints."""
    COMPOSITE = "composite"
    """A `CompositeIteration` for `minimize` with a penalty."""
    FIXED_POINT = "fixed-point"
    """A `FixedPointIteration` for `fixed_point`."""


@dataclasses.dataclass(frozen=True)
class Paper:
    """Where a method was published.

    Attributes:
        title: Its title.
        authors: Its authors, as printed.
        year: Year of publication.
        arxiv: arXiv identifier; empty when there is none.
        venue: Journal, conference or page.
    """

    title: str
    authors: str
    year: int
    arxiv: str = ""
    venue: str = ""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One published method: how to build it and what is said about it.

    Attributes:
        name: Its name on the command line, lower case with hyphens.
        build: Returns the method from its hyperparameters, all with the paper's defaults.
        builds: What ``build`` returns.
        runs_on: Kinds of problem it can race on.
        family: Shelf of the catalogue ("first-order", "matrix", "krylov", "incomplete", "second-order").
        paper: Where it was published.
        purpose: One sentence: what it is for.
        claim: The paper's headline claim in one sentence.
        example: How to call it, as Python that runs with ``precond``, ``torch``, a module ``model``, a matrix ``A`` and
            a right-hand side ``b`` at hand.
        space: What a tuner may vary: arguments of ``build``, and ``lr`` and ``weight_decay`` of the optimizer.
        lr: Default learning rate, for methods of the optimizer.
        weight_decay: Default weight decay, for methods of the optimizer.
        aliases: Other names that people look for it under, among recipes of its sort.
        companion: For an iteration, the name of the preconditioner that it is published with; taken unless the user
            names another.
    """

    name: str
    build: Callable[..., Any]
    builds: Builds
    runs_on: frozenset[Kind]
    family: str
    paper: Paper
    purpose: str
    claim: str
    example: str
    space: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    lr: float | None = None
    weight_decay: float = 0.0
    companion: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def defaults(self) -> dict[str, Any]:
        """The default of every dimension of the search space."""
        own = {name: p.default for name, p in inspect.signature(self.build).parameters.items()}
        own |= {"lr": self.lr, "weight_decay": self.weight_decay}
        return {name: own[name] for name in self.space}

    @property
    def text(self) -> str:
        """The recipe's docstring: equations and numbered deviations."""
        return inspect.getdoc(self.build) or ""
