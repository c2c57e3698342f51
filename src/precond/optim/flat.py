"""Flat slabs: all parameters of a group that follow one global method, as a single vector."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import IncompatibleError, Method, named_tensors
from precond.math.norms import usable_members
from precond.optim.slab import Slab
from precond.optim.slab_state import SlabState, allocate, short_name, slab_shape
from precond.optim.whole_step import surely_finite

logger = logging.getLogger(__name__)

_PLACE = "flat"
"""Name under which a parameter's state keeps where it lies in the vector, and how long the vector is."""
PLACE_BYTES = 16
"""What that takes: two numbers of 64 bits."""


class FlatSlab(Slab):
    """Parameters of one group that follow one global method, as a single vector ``[1, n]``, with one state.

    A parameter without a usable gradient stays where it is, and its part of the gradient is zero. In its saved state a
    parameter has its slices of all tensors with an axis as long as the vector; what belongs to the whole (a small
    matrix, a counter) is kept with the first. Where all parameters have names, they lie in the order of these, so that
    a state loads into a model of another order.

    Args:
        named: The parameters with their names, empty where there are none.
        method: The method that they all follow.
        group: Index of their parameter group.
        states: What is known of each parameter from earlier steps; left out if it is not of these very parameters.
    """

    def __init__(
        self, named: Sequence[tuple[str, Tensor]], method: Method, group: int, states: Mapping[Tensor, Any]
    ) -> None:
        named = sorted(named, key=lambda pair: pair[0]) if all(name for name, _ in named) else named
        params = [param for _, param in named]
        for name, param in named:
            _check_whole(method, name, param)
        self.sizes = [param.numel() for param in params]
        total = sum(self.sizes)
        super().__init__([params[0].detach().new_empty(1).expand(total)], method, group, [0])
        self.params = params
        self.offsets = [0] * len(params)
        self.steps = [0] * len(params)
        self.starts = [sum(self.sizes[:i]) for i in range(len(params))]
        self._axes = flat_axes(method, total, self.dtype)
        self._places = [torch.tensor([start, total]) for start in self.starts]
        self.notes = self._places
        self._known = self._knows(states)

    def _knows(self, states: Mapping[Tensor, Any]) -> bool:
        """Whether there is a state of these parameters, all of them and at these places."""
        had = [states.get(param, {}).get(_PLACE) for param in self.params]
        if all(place is None for place in had):
            return False
        same = all(
            place is not None and torch.equal(place.cpu(), ours) for place, ours in zip(had, self._places, strict=True)
        )
        if not same:
            logger.warning(
                "the parameters that %s takes as one vector, or their order, have changed: its state starts afresh "
                "(give the optimizer model.named_parameters(), and all of them from the start)",
                type(self.method.preconditioner).__name__,
            )
        return same

    # --- saving -------------------------------------------------------------------------------------------------

    def named_views(self, member: int) -> dict[str, Tensor]:
        """Return one parameter's slices of the state by dotted names, as views; with the first one, the rest too."""
        views = {_PLACE: self._places[member]}
        for name, tensor in named_tensors(self.state):
            view = self._view(short_name(name), tensor, member)
            if view is not None:
                views[short_name(name)] = view
        return views

    def restore(self, member: int, values: dict[str, Tensor]) -> None:
        """Copy what a parameter's saved state holds, if the states of all fit."""
        if not self._known:
            return
        for name, tensor in named_tensors(self.state):
            view = self._view(short_name(name), tensor, member)
            if view is not None and short_name(name) in values:
                view.copy_(values[short_name(name)])

    def _view(self, name: str, tensor: Tensor, member: int) -> Tensor | None:
        axis = self._axes[name]
        if axis is None:
            return tensor[0] if member == 0 else None
        piece = tensor[0].narrow(axis - 1, self.starts[member], self.sizes[member])
        return piece.unflatten(axis - 1, slab_shape(1, self.params[member])[1:])

    def read_counters(self) -> None:
        """Mirror the counters of the state on the host; call after `restore`."""
        self.steps = self.state.step.tolist() * len(self.params)
        self.clock = int(self.state.clock.max())

    # --- stepping -----------------------------------------------------------------------------------------------

    def count(self, state: SlabState, members: Sequence[int], without: Sequence[int] = ()) -> None:
        """Count a gradient of the whole."""
        super().count(state, range(len(self.params)))

    def due(self, members: Sequence[int]) -> list[int] | None:
        """Return ``None`` if the refresh of the whole is due now, no position otherwise."""
        return super().due([0])

    def counted(self, members: Sequence[int]) -> list[int] | None:
        """Return ``None`` if the costly statistics of the whole absorb the coming step, no position otherwise."""
        return super().counted([0])

    def gather(self, tensors: Sequence[Tensor], members: Sequence[int]) -> Tensor:
        """Return one vector, ``[1, n]``, in the working dtype; zeros where there is no member."""
        if len(members) == len(self.params):
            return torch.cat([tensor.reshape(-1).to(self.dtype) for tensor in tensors]).unsqueeze(0)
        vector = torch.zeros(1, sum(self.sizes), dtype=self.dtype, device=self.device)
        for i, tensor in zip(members, tensors, strict=True):
            self._piece(vector, i).copy_(tensor.reshape(-1))
        return vector

    def scatter(self, stacked: Tensor, members: Sequence[int]) -> list[Tensor]:
        """Return the parts of a vector that belong to ``members``, in the parameters' own shape."""
        return [self._piece(stacked, i).view(self.params[i].shape) for i in members]

    def usable(self, gradient: Tensor, members: Sequence[int]) -> tuple[list[int], Tensor]:
        """Return those of ``members`` whose gradient is usable, and a vector with zeros in place of the others."""
        if surely_finite((gradient,)) or bool(usable_members(gradient).all()):
            return list(members), gradient
        keep = [i for i in members if bool(usable_members(self._piece(gradient, i)[None]))]
        return keep, self.gather([self._piece(gradient, i) for i in keep], keep)

    @contextlib.contextmanager
    def working(self, members: Sequence[int] | None) -> Iterator[SlabState]:
        """Yield the state of the whole in working form, and write it back afterwards."""
        with super().working(None) as state:
            yield state

    def absorbed(self, members: Sequence[int]) -> list[int]:
        """Return how many gradients the whole has absorbed before this step's."""
        return super().absorbed([0])

    def _piece(self, vector: Tensor, member: int) -> Tensor:
        return vector[0].narrow(0, self.starts[member], self.sizes[member])


def flat_axes(method: Method, length: int, dtype: torch.dtype) -> dict[str, int | None]:
    """Return which axis of each tensor of a state is as long as the vector, by name; ``None`` where not just one is.

    Found by allocating for vectors of two lengths, on the meta device, and comparing shapes. A storage may encode the
    longer one alone; what differs in names or number of axes has no such axis.
    """
    longer = length + 2**20
    one, two = (
        dict(named_tensors(allocate(method, torch.empty(1, n, dtype=dtype, device="meta")))) for n in (length, longer)
    )
    axes: dict[str, int | None] = {}
    for name, short in one.items():
        long = two.get(name, short)
        pairs = zip(short.shape, long.shape, strict=True) if short.ndim == long.ndim else ()
        found = [axis for axis, pair in enumerate(pairs) if pair == (length, longer)]
        axes[short_name(name)] = found[0] if len(found) == 1 and found[0] > 0 else None
    return axes


def _check_whole(method: Method, name: str, param: Tensor) -> None:
    if hasattr(param, "device_mesh"):
        raise IncompatibleError(
            f"{type(method.preconditioner).__name__} acts on all parameters as one vector, and {name or 'a parameter'} "
            "is sharded: give it whole parameters, or take a method that acts on one tensor at a time"
        )
