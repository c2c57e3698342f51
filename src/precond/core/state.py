"""States of parts: trees of dataclasses, lists and tensors, named by dotted keys.

Every tensor of a state has the batch as its leading axis, and parts write into tensors in
place; so a driver can name, slice, gather, store and restore any state without knowing the part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import Tensor

from precond.core.roles import Role, role_of

S = TypeVar("S")


@dataclasses.dataclass
class NoState:
    """The state of a part that keeps nothing."""


def named_tensors(state: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield ``(dotted name, tensor)`` for every tensor of a state, in a fixed order.

    Args:
        state: A tree of dataclasses, lists, tuples and dicts with tensors as leaves; other leaves are skipped.
        prefix: What to put in front of each name.

    Yields:
        Pairs such as ``("inner.second_moment", tensor)``.
    """
    if isinstance(state, Tensor):
        yield prefix, state
        return
    for name, child in _children(state):
        yield from named_tensors(child, f"{prefix}.{name}" if prefix else name)


def map_tensors(function: Callable[[Tensor], Tensor], state: S) -> S:
    """Return a copy of ``state`` in which every tensor is replaced by ``function(tensor)``."""
    return map_leaves(lambda leaf, _: function(leaf), state)  # type: ignore[no-any-return]  # the tree keeps its type


def map_leaves(function: Callable[[Any, Role], Any], state: Any, kind: type = Tensor, role: Role = Role.SIGNED) -> Any:
    """Return a copy of ``state`` in which every leaf is replaced by ``function(leaf, role)``.

    Args:
        function: Takes a leaf and the role that its field declares.
        state: A tree of dataclasses, lists, tuples and dicts.
        kind: Nodes of this type are leaves, besides tensors.
        role: Role of the tree itself.

    Returns:
        The copy; what is neither a leaf nor a container is kept.
    """
    if isinstance(state, Tensor | kind):
        return function(state, role)
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        fields = {
            field.name: map_leaves(function, getattr(state, field.name), kind, role_of(field))
            for field in dataclasses.fields(state)
        }
        return dataclasses.replace(state, **fields)
    if isinstance(state, (list, tuple)):
        return type(state)(map_leaves(function, child, kind, role) for child in state)
    if isinstance(state, dict):
        return {name: map_leaves(function, child, kind, role) for name, child in state.items()}
    return state


def split_members(state: S, batch: int) -> S:
    """Return views of a state of ``batch * k`` members with the axes ``[batch, k, ...]``.

    Args:
        state: Any state; each member of a batch was cut into ``k`` before it was made.
        batch: Members before they were cut.

    Returns:
        The same tree; writing to its tensors writes to those of ``state``.
    """
    return map_tensors(lambda t: t.view(batch, t.shape[0] // batch, *t.shape[1:]), state)


def merge_members(state: S) -> S:
    """Return views of a state with the axes ``[batch, k, ...]`` as one of ``batch * k`` members."""
    return map_tensors(lambda t: t.view(-1, *t.shape[2:]), state)


def _children(state: Any) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(state):
        for field in dataclasses.fields(state):
            yield field.name, getattr(state, field.name)
    elif isinstance(state, (list, tuple)):
        for index, child in enumerate(state):
            yield str(index), child
    elif isinstance(state, dict):
        yield from state.items()
