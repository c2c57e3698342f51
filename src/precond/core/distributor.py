"""Where parameters live, and who computes their directions."""

from __future__ import annotations

import abc
import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor


class Duty(enum.Enum):
    """What this process does for one parameter."""

    HOLDER = "holder"
    """It finds the direction of what it holds of the parameter, and moves that: nobody else is needed."""
    OWNER = "owner"
    """It sees the whole gradient, keeps the state, and finds the direction for all who hold a part."""
    GUEST = "guest"
    """It hands in its part of the gradient, and is told the direction of its part."""


@dataclasses.dataclass(frozen=True)
class Tenant:
    """A parameter that a distributor is to place.

    Attributes:
        param: The parameter.
        whole: Whether its method must see it whole, rather than any part of it alone.
        cost: Relative cost of its steps.
    """

    param: Tensor
    whole: bool
    cost: float


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The gradients of one step, on which all processes agree.

    Attributes:
        parts: What this process holds of each gradient that some process has.
        dropped: Parameters left alone in this step, since a part of their gradient is not finite somewhere.
    """

    parts: dict[Tensor, Tensor]
    dropped: Sequence[Tensor] = ()


class Distributor(abc.ABC):
    """Where parameters live and who computes them; makes whole what a method must see whole.

    All processes that hold parts of the same parameters call the same verbs in the same order.
    """

    eager: ClassVar[bool] = False
    """Whether every trainable parameter has state from the first step on, so that all processes lay it out alike."""

    alone: ClassVar[bool] = False
    """Whether this process needs no other: the gradients of a step are those that its parameters carry."""

    @abc.abstractmethod
    def place(self, tenants: Sequence[Tenant]) -> dict[Tensor, Duty]:
        """Say what this process does for each parameter; those placed before keep their owners. Sends nothing."""

    @abc.abstractmethod
    def agree(self, params: Sequence[Tensor]) -> Agreement:
        """Return the gradients of this step, the same decision in all processes."""

    @abc.abstractmethod
    def whole(self, parts: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Return what `Duty.OWNER` parameters of this process are made of, from the parts that all processes hand in.

        Args:
            parts: This process's part of every parameter that has an owner and a gradient.

        Returns:
            Whole tensors of the parameters that this process owns.
        """

    @abc.abstractmethod
    def parts(self, params: Sequence[Tensor], wholes: Mapping[Tensor, Tensor], dtype: torch.dtype) -> list[Tensor]:
        """Return this process's part of what the owner of each parameter has.

        Args:
            params: Parameters with an owner, the same in all processes.
            wholes: Whole tensors of those that this process owns.
            dtype: The type of all of them.

        Returns:
            One part for each of ``params``.
        """

    @abc.abstractmethod
    def pool(self, params: Sequence[Tensor], table: Tensor) -> Tensor:
        """Return the sum over processes of a table with one row for each of some parameters with owners."""

    @abc.abstractmethod
    def norm(self, parts: Mapping[Tensor, Tensor]) -> Tensor:
        """Return the norm of whole tensors of which this process has parts, all of them together, in float64."""

    @abc.abstractmethod
    def average(self, loss: Tensor | None) -> Tensor | None:
        """Return the mean of the losses of all processes; ``None`` if one of them has none."""

    @abc.abstractmethod
    def held(self, param: Tensor) -> Tensor:
        """Return what this process holds of a parameter, as an ordinary tensor that shares its memory."""

    @abc.abstractmethod
    def outward(self, param: Tensor, value: Tensor) -> Tensor:
        """Return a state tensor of a held part in a form that says which part it is, for checkpoints."""

    @abc.abstractmethod
    def inward(self, param: Tensor, value: Tensor) -> Tensor:
        """Return the held part of a state tensor, as it came from a checkpoint."""

    @property
    def sent(self) -> int:
        """Bytes that this process has sent to others."""
        return 0

    def check_united(self) -> None:  # one group of processes, or none
        """Refuse what all parameters must agree on, where they live on several groups of processes."""
