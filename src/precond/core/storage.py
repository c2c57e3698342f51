"""How a state rests between steps."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor

from precond.core.roles import Role
from precond.core.state import map_leaves


class Resting(abc.ABC):
    """The resting form of one tensor, in place of it in a state: a dataclass of tensors that knows its way back.

    Every tensor has the batch as its leading axis, so that members can be taken out, stored and put back as those of
    any state; everything else in it is the same for all members.
    """

    @abc.abstractmethod
    def decode(self) -> Tensor:
        """Return the working form: a new tensor in the dtype that was put to rest, dense, the batch outermost."""

    @abc.abstractmethod
    def encode(self, working: Tensor) -> None:
        """Write the resting form of ``working`` into the tensors, in place; never writes to ``working``."""


class Storage(abc.ABC):
    """Chooses the resting form of floating-point state tensors, by what they hold and how large they are."""

    encodes: ClassVar[bool] = True
    """Whether any resting form differs from the working one (False lets a driver work in place)."""

    @abc.abstractmethod
    def rest(self, working: Tensor, role: Role) -> Tensor | Resting:
        """Return the resting form of a fresh tensor, values included; the tensor itself where it rests as it works.

        The bytes depend on shape, dtype and role alone, and on the batch in proportion.

        Args:
            working: Shape ``[batch, ...]``; may be on the meta device.
            role: What it holds.

        Returns:
            What takes its place in the state.
        """


@dataclasses.dataclass(frozen=True)
class Full(Storage):
    """State rests as it works: nothing is encoded, nothing is copied."""

    encodes: ClassVar[bool] = False

    def rest(self, working: Tensor, role: Role) -> Tensor | Resting:
        """Return ``working`` itself."""
        return working


def put_to_rest(storage: Storage, state: Any) -> Any:
    """Return a fresh working state in the form that a storage gives it.

    Counters, flags, numbers per member and whatever is `Role.EXACT` stay as they are.

    Args:
        storage: Chooses the resting forms.
        state: A state as the parts allocate it.

    Returns:
        The same tree with a `Resting` in place of every tensor that is encoded.
    """

    def rest(leaf: Tensor, role: Role) -> Tensor | Resting:
        encoded = leaf.is_floating_point() and leaf.ndim >= 2 and role is not Role.EXACT
        return storage.rest(leaf, role) if encoded else leaf

    return map_leaves(rest, state)


def wake(state: Any) -> Any:
    """Return the working form of a resting state; tensors that rest as they work are the same tensors."""
    return map_leaves(lambda leaf, _: leaf.decode() if isinstance(leaf, Resting) else leaf, state, Resting)


def leaves(state: Any) -> Iterator[Any]:
    """Yield the tensors of a state in a fixed order, each `Resting` whole."""
    found: list[Any] = []
    map_leaves(lambda leaf, _: found.append(leaf), state, Resting)
    return iter(found)
