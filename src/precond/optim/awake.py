"""The working form of some members of a resting state, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import Resting, leaves, map_tensors, named_tensors, wake


class Awake:
    """The state of some members, decoded; what a part writes to is encoded again by `settle`, and nothing else.

    Encoding loses what the codes cannot hold, so that a tensor which nobody wrote to must be left as it rests. Torch
    counts the writes to each tensor. (Its fused kernels do not, but those work on full state alone.)

    Args:
        resting: The state of all members.
        members: Which members to wake, in order; ``None`` for all.

    Attributes:
        state: The working form: a state like any, with the members as its batch.
    """

    def __init__(self, resting: Any, members: Sequence[int] | None) -> None:
        self._resting = resting
        self._members = members
        self.state = wake(_taken(resting, members))
        self._writes = {id(tensor): tensor._version for _, tensor in named_tensors(self.state)}
        self._partly: dict[int, tuple[int, list[int]]] = {}

    def wrote(self, tensor: Tensor, positions: Sequence[int], before: int) -> None:
        """Say that the last write to a tensor of the state was to the members at some positions only.

        Args:
            tensor: The tensor, as it is now.
            positions: Which of the members that are awake.
            before: The writes to the tensor before that one.
        """
        if before == self._writes.get(id(tensor)):
            self._partly[id(tensor)] = (tensor._version, list(positions))

    def settle(self) -> None:
        """Bring what was written to back to rest."""
        for resting, working in zip(leaves(self._resting), leaves(self.state), strict=True):
            if working is resting:
                continue
            if isinstance(resting, Resting) and working._version == self._writes[id(working)]:
                continue
            version, positions = self._partly.get(id(working), (-1, []))
            self._put(resting, working, positions if version == working._version else None)

    def _put(self, resting: Tensor | Resting, working: Tensor, positions: list[int] | None) -> None:
        """Write the members at ``positions`` (``None`` for all) of a working tensor to where they rest."""
        members = self._members
        if positions is not None:
            working = working[positions]
            members = positions if members is None else [members[i] for i in positions]
        if isinstance(resting, Tensor):
            resting.copy_(working) if members is None else resting.index_copy_(0, _index(members, working), working)
            return
        part = _taken(resting, members)
        part.encode(working)
        if members is not None:
            for (_, whole), (_, new) in zip(named_tensors(resting), named_tensors(part), strict=True):
                whole.index_copy_(0, _index(members, whole), new)


def _taken(state: Any, members: Sequence[int] | None) -> Any:
    if members is None:
        return state
    return map_tensors(lambda tensor: tensor.index_select(0, _index(members, tensor)), state)


def _index(members: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(members, device=like.device)
