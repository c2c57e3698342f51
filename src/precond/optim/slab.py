"""Slabs: parameters of equal shape whose states are stacked, so that one batched operation serves all of them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError, Health, Method, map_tensors, named_tensors
from precond.math.norms import usable_members
from precond.optim.awake import Awake
from precond.optim.carried import Carried
from precond.optim.core import compiled, plain
from precond.optim.fused import fused_step
from precond.optim.slab_state import (
    SlabState,
    allocate,
    count_failures,
    short_name,
    slab_shape,
    turned_momentum,
    working_dtype,
)
from precond.optim.whole_step import surely_finite


class Slab:
    """Parameters of one group with equal shape, dtype, device and method, and their stacked state.

    Args:
        params: The parameters.
        method: The method that they all follow.
        group: Index of their parameter group.
        offsets: Phase of each parameter within the refresh interval.
        like: A tensor shaped as what is worked on of each parameter; the first parameter unless given.
        kin: The parameters whose steps drive the schedule of refreshes, wherever they are computed; these unless given.
        backend: What compiles the work between refreshes; ``None`` for nothing.

    Attributes:
        notes: Tensors that parameters' saved states hold beside what is stacked.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        method: Method,
        group: int,
        offsets: Sequence[int],
        like: Tensor | None = None,
        kin: Sequence[Tensor] | None = None,
        backend: str | None = None,
    ) -> None:
        first = params[0] if like is None else like
        self.kin = list(params) if kin is None else list(kin)
        self.member_shape = tuple(first.shape)
        self.params = list(params)
        self.method = method
        self.group = group
        self.device, self.param_dtype = first.device, first.dtype
        self.dtype = working_dtype(first.dtype)
        self.shape = slab_shape(len(params), first)
        self.state = allocate(method, torch.empty(self.shape, dtype=self.dtype, device=self.device))
        self.state.phase.copy_(torch.tensor(offsets))
        self.offsets = list(offsets)
        self.steps = [0] * len(params)
        self.notes: list[Tensor] = []
        self.clock = 0
        self._backend = backend
        self.follow(method)
        self._awake: Awake | None = None
        self._pieces: dict[int, list[Tensor]] = {}

    def follow(self, method: Method) -> None:
        """Take steps by this method from now on, whose state must have the form of that of the one before."""
        self.method = method
        self.turned = turned_momentum(method)
        self.fused = fused_step(method, self.shape[1:])
        self.plain = plain(method, self.turned, fuse=self._backend is None and self.device.type == "cpu")
        self.core = self.plain if self._backend is None else compiled(self.plain, method, self.device, self._backend)

    @functools.cached_property
    def _named(self) -> list[tuple[str, Tensor]]:
        """The tensors of the state by the names under which they are saved; found once, since many members ask."""
        return [(short_name(name), tensor) for name, tensor in named_tensors(self.state)]

    def named_views(self, member: int) -> dict[str, Tensor]:
        """Return one parameter's state by dotted names, as views into the stacked tensors."""
        return {name: tensor[member] for name, tensor in self._named}

    def restore(self, member: int, values: dict[str, Tensor]) -> None:
        """Copy one parameter's saved state into the stacked tensors; values of other names are left out."""
        for name, tensor in self._named if values else []:
            value = values.get(name)
            if value is None:
                continue
            if value.shape != tensor.shape[1:]:
                own = tuple(self.params[member].shape)
                raise BadInputError(
                    f"the state {name!r} of a parameter of shape {own} was saved with shape "
                    f"{tuple(value.shape)}, and has shape {tuple(tensor.shape[1:])} here: it belongs to another "
                    "parameter, or to other settings of the method; load it with the settings that it was saved with, "
                    "and give both optimizers the same parameters in the same order, or named ones"
                )
            tensor[member].copy_(value)

    def read_counters(self) -> None:
        """Mirror the counters of the state on the host; call after `restore`."""
        self.steps = self.state.step.tolist()
        self.offsets = self.state.phase.tolist()
        self.clock = int(self.state.clock.max())
        self.state.clock.fill_(self.clock)

    def tick(self, state: SlabState, members: Sequence[int], without: Sequence[int] = ()) -> None:
        """Count a step, in the working state of ``members`` and on the host, but for those at some positions."""
        if len(without) == len(members):
            return
        self.pass_by()
        if state is not self.state:
            state.clock.fill_(self.clock)
        self.count(state, members, without)

    def count(self, state: SlabState, members: Sequence[int], without: Sequence[int] = ()) -> None:
        """Count a gradient that was absorbed, as `tick` does, where the clock does not move."""
        if without:
            positions = [position for position in range(len(members)) if position not in without]
            state.step[positions] += 1
            members = [members[position] for position in positions]
        else:
            state.step.add_(1)
        for i in members:
            self.steps[i] += 1

    def pass_by(self) -> None:
        """Count a step in which the slab takes part, but perhaps none of the parameters that are computed here."""
        self.clock += 1
        self.state.clock.fill_(self.clock)

    def due(self, members: Sequence[int]) -> list[int] | None:
        """Return the positions in ``members`` whose refresh is due now; ``None`` for all."""
        if not self.method.preconditioner.refreshes:
            return []
        cadence = self.method.cadence
        due = [
            position
            for position, i in enumerate(members)
            if self._due(self.steps[i], cadence.due(self.clock, self.offsets[i]))
        ]
        return None if len(due) == len(members) else due

    def counted(self, members: Sequence[int]) -> list[int] | None:
        """Return the positions in ``members`` whose costly statistics absorb the coming step; ``None`` for all."""
        cadence = self.method.cadence
        if cadence.statistics == 1:
            return None
        counted = [
            position
            for position, i in enumerate(members)
            if self.steps[i] == 0 or cadence.counts(self.clock + 1, self.offsets[i])
        ]
        return None if len(counted) == len(members) else counted

    def _due(self, step: int, scheduled: bool) -> bool:
        """Whether a member with so many steps refreshes, given what the schedule says of the slab."""
        cadence = self.method.cadence
        return scheduled if cadence.after else step == cadence.start or (step > cadence.start and scheduled)

    def gather(self, tensors: Sequence[Tensor], members: Sequence[int]) -> Tensor:
        """Stack one tensor for each of ``members`` in the working dtype, without a copy where one suffices."""
        stacked = tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(list(tensors))
        return stacked.to(self.dtype).reshape(len(tensors), *self.shape[1:])

    def scatter(self, stacked: Tensor, members: Sequence[int]) -> list[Tensor]:
        """Return what a stacked tensor holds for each of ``members``, in the parameters' own shape."""
        return list(stacked.reshape(stacked.shape[0], *self.member_shape).unbind(0))

    def pieces(self, stacked: Tensor) -> list[Tensor]:
        """Return what a tensor of the state holds for each parameter, in its own shape: views that are made once."""
        if id(stacked) not in self._pieces:
            self._pieces[id(stacked)] = self.scatter(stacked, range(len(self.params)))
        return self._pieces[id(stacked)]

    def usable(self, gradient: Tensor, members: Sequence[int]) -> tuple[list[int], Tensor]:
        """Return those of ``members`` whose gradient is finite, its squares too, and theirs alone, stacked."""
        if not surely_finite((gradient,)):
            keep = [position for position, ok in enumerate(usable_members(gradient).tolist()) if ok]
            if len(keep) < len(members):
                return [members[position] for position in keep], gradient[keep]
        return list(members), gradient

    @contextlib.contextmanager
    def working(self, members: Sequence[int] | None) -> Iterator[SlabState]:
        """Yield the state of some members (``None`` for all) in working form, and write it back afterwards."""
        if members is None and not self.method.storage.encodes:
            yield self.state
            return
        self._awake = Awake(self.state, members)
        yield self._awake.state
        self._awake.settle()
        self._awake = None

    def refresh(self, state: SlabState, positions: Sequence[int] | None) -> Health:
        """Refresh the preconditioner of the members at ``positions`` of a working state (``None`` for all)."""
        whole = (state.preconditioner, state.filters.get("momentum"))
        if positions is None or len(positions) == state.step.shape[0]:
            health = self._refresh(*whole)
            count_failures(state.failures, health)
            return health
        first, last = positions[0], positions[-1]
        if self._awake is None and len(positions) == last - first + 1:  # neighbours need no copy
            part = map_tensors(lambda t: t[first : last + 1], whole)
            health = self._refresh(*part)
            count_failures(state.failures[first : last + 1], health)
            return health
        index = torch.tensor(positions, device=self.device)
        part = map_tensors(lambda t: t.index_select(0, index), whole)
        unwritten = [new._version for _, new in named_tensors(part)]
        health = self._refresh(*part)
        pairs = zip(named_tensors(whole), named_tensors(part), unwritten, strict=True)
        for (_, tensor), (_, new), version in pairs:
            if new._version != version:
                before = tensor._version
                tensor.index_copy_(0, index, new)
                if self._awake is not None:
                    self._awake.wrote(tensor, positions, before)
        failures = state.failures.index_select(0, index)
        count_failures(failures, health)
        state.failures.index_copy_(0, index, failures)
        return health

    def _refresh(self, state: Any, momentum: Any) -> Health:
        """Refresh, and let a momentum that lives in the coordinates of the preconditioner turn with them."""
        preconditioner = self.method.preconditioner
        carried = None if self.turned is None else Carried(self.turned, state, momentum)
        try:
            health = preconditioner.refresh(state)
        except torch.linalg.LinAlgError as error:  # a part that breaks its law must not take the run with it
            health = Health(len(self.params), f"{type(preconditioner).__name__}: {error}")
        if carried is not None:
            carried.land(state)
        return health

    def absorbed(self, members: Sequence[int]) -> list[int]:
        """Return how many gradients each of a working batch has absorbed before this step's."""
        return [self.steps[i] for i in members]
