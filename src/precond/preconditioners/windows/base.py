"""What a window of gradients can do, whatever it is made of."""

from __future__ import annotations

import abc
from typing import Generic, TypeVar

import torch
from torch import Tensor

from precond.core import named_tensors

S = TypeVar("S")


class Window(abc.ABC, Generic[S]):
    """A matrix ``G`` of gradients, one a row, in a format of its own; frozen dataclasses, tensors live in ``S``.

    Every tensor of a state has the axes ``[batch, rows, ...]``.
    """

    @abc.abstractmethod
    def init(self, like: Tensor, rows: int) -> S:
        """Allocate rows of zeros for gradients shaped ``[batch, *shape]`` like ``like``; reads no values."""

    @abc.abstractmethod
    def write(self, state: S, v: Tensor) -> None:
        """Write ``v``, ``[batch, *shape]``, into the only row of a state, as exactly as the format can."""

    @abc.abstractmethod
    def products(self, state: S, v: Tensor) -> Tensor:
        """Return ``G v``, ``[batch, rows]``."""

    @abc.abstractmethod
    def combine(self, state: S, weights: Tensor, like: Tensor) -> Tensor:
        """Return ``G^T weights`` in the shape and dtype of ``like``; ``weights`` are ``[batch, rows]``."""

    def read(self, state: S, like: Tensor) -> Tensor:
        """Return the only row of a state as a tensor shaped like ``like``."""
        return self.combine(state, like.new_ones(like.shape[0], 1), like)

    def put(self, state: S, slot: Tensor, row: S, keep: Tensor) -> None:
        """Copy the only row of another state into row ``slot`` of the members that ``keep``, ``[batch]`` both."""
        member = torch.arange(slot.shape[0], device=slot.device)
        for (_, whole), (_, new) in zip(named_tensors(state), named_tensors(row), strict=True):
            mask = keep.view(-1, *(1,) * (whole.ndim - 2))
            whole[member, slot] = torch.where(mask, new[:, 0].to(whole.dtype), whole[member, slot])
