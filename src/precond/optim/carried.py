"""A momentum that lives in the coordinates of a preconditioner, while these turn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from precond.core import Turned, named_tensors


class Carried:
    """Takes what is averaged in coordinates out of them before a turn, and into the new ones after it.

    What scales the coordinates was learned in those before the turn. One in which little has been seen is divided by
    next to nothing, while it may hold momentum now: entries of first steps get hundreds of times too long, and where
    gradients are sparse a million times. So, where the preconditioner bounds the `growth`, what is beyond that is taken
    off the momentum. Scales and momentum that decay side by side keep the bound until the next turn, as they do in
    coordinates that never turn.

    Args:
        turned: The preconditioner that has the coordinates.
        state: Its state.
        momentum: The state of the momentum.
    """

    def __init__(self, turned: Turned[Any], state: Any, momentum: Any) -> None:
        self._turned = turned
        self._vectors = [t for _, t in named_tensors(momentum) if t.ndim > 1]  # counters have the batch alone
        self._outside = [turned.leave(state, vector) for vector in self._vectors]
        growth = turned.growth
        self._limits = [] if growth is None else [growth * self._longest(state, vector) for vector in self._vectors]

    def land(self, state: Any) -> None:
        """Write the momentum in the coordinates of a state that has turned."""
        for vector, outside in zip(self._vectors, self._outside, strict=True):
            vector.copy_(self._turned.enter(state, outside))
        for vector, limit in zip(self._vectors, self._limits, strict=False):  # there may be no limits
            size = self._turned.apply_within(state, vector).abs_()
            vector.mul_(torch.where(size > limit, limit / size, 1.0))

    def _longest(self, state: Any, vector: Tensor) -> Tensor:
        """Return the longest entry of the direction of each member, ``[batch, 1, ..., 1]`` to broadcast."""
        size = self._turned.apply_within(state, vector).abs_()
        return size.amax(tuple(range(1, size.ndim)), keepdim=True)
