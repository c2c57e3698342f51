"""A method is a frozen record of typed slots: one published method of optimization."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from precond.core.cadence import Cadence
from precond.core.decay import Decay
from precond.core.errors import BadInputError
from precond.core.filter import Filter
from precond.core.preconditioner import Preconditioner
from precond.core.step import Constant, Shared, StepRule
from precond.core.storage import Full, Storage
from precond.core.traits import Need, Scope


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One published method: what each slot holds, nothing else.

    The preconditioner *observes the estimator's output* and is *applied to the momentum's output*.
    An empty slot is ``None``: the signal passes through.

    Attributes:
        preconditioner: Approximate inverse curvature.
        estimator: What we believe the gradient is (variance reduction, clipping, error feedback).
        momentum: Averaging before the preconditioner.
        smoothing: Averaging of directions, after the preconditioner.
        step: How far to go.
        decay: How weight decay enters.
        cadence: When the preconditioner is refreshed.
        storage: How state rests between steps.
        clip: Largest norm of the gradients of all parameters together; longer ones are scaled down before any part
            sees them.
        clip_estimates: Largest norm of the estimator's output of all parameters of a group that follow this method,
            together; longer ones are scaled down before the preconditioner sees them.
    """

    preconditioner: Preconditioner[Any]
    estimator: Filter[Any] | None = None
    momentum: Filter[Any] | None = None
    smoothing: Filter[Any] | None = None
    step: StepRule[Any] = Constant()
    decay: Decay | None = None
    cadence: Cadence = Cadence()
    storage: Storage = Full()
    clip: float | None = None
    clip_estimates: float | None = None

    def __post_init__(self) -> None:
        """Check the largest norms."""
        for limit in (self.clip, self.clip_estimates):
            if limit is not None and not limit > 0:
                raise BadInputError(f"gradients must be clipped to a positive norm, not {limit}")

    @property
    def filters(self) -> dict[str, Filter[Any]]:
        """The filters by the name of their slot, empty slots left out."""
        slots = {"estimator": self.estimator, "momentum": self.momentum, "smoothing": self.smoothing}
        return {name: filter_ for name, filter_ in slots.items() if filter_ is not None}

    @functools.cached_property
    def needs(self) -> Need:
        """Everything that any part needs."""
        needs = self.preconditioner.needs | self.step.needs
        for filter_ in self.filters.values():
            needs |= filter_.needs
        return needs

    @functools.cached_property
    def refreshes_after(self) -> bool:
        """Whether refreshes come after the step: where the cadence says so, or coordinates turn."""
        return self.cadence.after or self.preconditioner.traits.turns

    @property
    def agreements(self) -> int:
        """How often in a step the parameters of a group must agree on a number."""
        return (self.clip_estimates is not None) + isinstance(self.step, Shared)

    @property
    def scope(self) -> Scope:
        """How much of a model one step must see at once: the widest scope of any part.

        A storage that encodes looks at whole tensors: its blocks, and the noise of its rounding, belong to entries.
        """
        scopes = {self.preconditioner.scope, self.step.scope, *(filter_.scope for filter_ in self.filters.values())}
        if Scope.GLOBAL in scopes:
            return Scope.GLOBAL
        return Scope.MATRIX if self.storage.encodes or Scope.MATRIX in scopes else Scope.ELEMENTWISE


class Selector(abc.ABC):
    """Decides by name and shape which parameters a rule of a `Route` takes."""

    @abc.abstractmethod
    def selects(self, name: str, parameter: Tensor) -> bool:
        """Whether the rule takes this parameter; ``name`` is empty for unnamed parameters."""


@dataclasses.dataclass(frozen=True)
class Route:
    """Different methods for different parameters: the first rule that selects a parameter takes it.

    Attributes:
        rules: Pairs of selector and method.
        default: The method for every other parameter.
    """

    rules: Sequence[tuple[Selector, Method]]
    default: Method

    def method_for(self, name: str, parameter: Tensor) -> Method:
        """Return the method for one parameter."""
        for selector, method in self.rules:
            if selector.selects(name, parameter):
                return method
        return self.default
