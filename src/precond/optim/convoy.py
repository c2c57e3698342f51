"""Slabs that one kernel moves together, straight from the gradients that their parameters carry."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from precond.core import map_tensors
from precond.optim.slab import Slab
from precond.optim.slab_state import CACHED
from precond.optim.whole_step import Ages, Joint, Moved, Vectors, surely_finite

_GRADIENT, _KIND = operator.attrgetter("grad"), operator.attrgetter("layout", "dtype")


_STAYS = 2**16
"""Entries of a tensor that stay in a cache from one look at them to the next."""


class Convoy:
    """Slabs of one group and method. What a step asks of them is found once, and their counters are counted as one.

    Args:
        slabs: The slabs, with fresh state that nobody has views of; several only where a kernel takes them together.
    """

    def __init__(self, slabs: Sequence[Slab]) -> None:
        self.slabs = list(slabs)
        self.params = [param for slab in self.slabs for param in slab.params]
        self._dtype = self.slabs[0].dtype
        self._flat = _takes_flat(self.slabs[0])
        self._primes = self.slabs[0].method.cadence.prime
        self._states: list[Tensor] = []
        self._lists: list[list[Tensor]] = []
        joint = self._joint
        if joint is not None:
            counters = [(*joint.counters(_states(s)), s.state.step, s.state.clock) for s in self.slabs]
            self._counters = self._pooled(list(itertools.chain.from_iterable(zip(*counters, strict=True))))
            self._ages = Ages(self._counters.split(len(self.params))[:-2])
            if self._flat:
                columns = zip(*(joint.tensors(_states(slab)) for slab in self.slabs), strict=True)
                self._states = [self._pooled(column) for column in columns]
            for column in zip(*(joint.tensors(_states(slab)) for slab in self.slabs), strict=True):
                pieces = (slab.pieces(tensor) for slab, tensor in zip(self.slabs, column, strict=True))
                self._lists.append(list(itertools.chain.from_iterable(pieces)))

    @property
    def _joint(self) -> Joint | None:
        fused = self.slabs[0].fused
        if fused is None:
            return None
        alone, device = len(self.slabs) == 1, self.slabs[0].device.type
        if alone and not self._flat and fused.checks and device == "cpu" and self.params[0].numel() > _STAYS:
            return None  # it looks at gradients while it moves, which saves reading them from memory twice
        return fused.joint

    def _pooled(self, tensors: Sequence[Tensor]) -> Tensor:
        """Let tensors of the state lie side by side; return them as one vector."""
        pool = torch.cat([tensor.flatten() for tensor in tensors])
        pieces = pool.split([tensor.numel() for tensor in tensors])
        homes = {id(old): new.view(old.shape) for old, new in zip(tensors, pieces, strict=True)}
        for slab in self.slabs:
            slab.state = map_tensors(lambda tensor: homes.get(id(tensor), tensor), slab.state)
        return pool

    def step(self, lr: Any, decay: float, *, finite: bool) -> bool:
        """Take the step as one kernel, if there is one and nothing stands against it; return whether.

        Args:
            lr: Learning rate, a number or a tensor.
            decay: Weight decay.
            finite: Whether the gradients are known to be finite.

        Returns:
            Whether it was taken: every parameter has a finite gradient, in the precision of the state.
        """
        joint = self._joint
        if joint is None:
            return False
        grads = self._gradients()
        if self._primes and any(0 in slab.steps for slab in self.slabs):  # a first gradient takes no step
            grads = None
        whole = _flatten_dense_tensors(grads) if grads is not None and self._flat else None
        if grads is None or not (finite or surely_finite(grads if whole is None else [whole])):
            if self._lists:
                self._ages.forget()  # slabs go and count one by one
            return False
        self._counters.add_(1)
        self._ages.follow()
        for slab in self.slabs:
            slab.clock += 1
            slab.steps = [count + 1 for count in slab.steps]
        moved = False
        if whole is not None and joint.flat is not None:
            vectors = Vectors(self.params, whole, self._states, self._lists, self._ages)
            moved = joint.flat(vectors, lr, decay)
        if not moved:
            joint.kernel(self.params, grads, self._lists, self._ages, lr, decay)
        return True

    def _gradients(self) -> list[Tensor] | None:
        """Return the gradients, if the kernel may walk through all of them, side by side with parameters and state."""
        grads = [gradient for gradient in map(_GRADIENT, self.params) if gradient is not None]
        if len(grads) < len(self.params) or self.slabs[0].param_dtype is not self._dtype:
            return None
        kinds = set(map(_KIND, grads))
        aligned = kinds == {(torch.strided, self._dtype)} and all(map(Tensor.is_contiguous, grads + self.params))
        return grads if aligned else None


def _takes_flat(slab: Slab) -> bool:
    """Whether a slab's step is dear in calls and has a form that takes all parameters as one vector."""
    if slab.fused is None or slab.fused.joint.flat is None or slab.device.type != "cpu":
        return False
    return slab.param_dtype == slab.dtype and slab.params[0].numel() <= _STAYS


def _states(slab: Slab) -> Moved:
    state = slab.state
    return Moved(slab.params, [], slab.pieces, state.preconditioner, state.filters.get("momentum"), state.previous)


def convoys(slabs: Sequence[Slab]) -> list[Convoy]:
    """Return slabs, those together that one kernel may move: of one group and method.

    On the processor, they are together small enough for its caches.
    """
    result: list[list[Slab]] = []
    filling: dict[tuple[Any, ...], tuple[list[Slab], int]] = {}
    for slab in slabs:
        key = (slab.group, id(slab.method), slab.dtype, slab.device, _takes_flat(slab))
        size = sum(param.numel() for param in slab.params) if slab.device.type == "cpu" else 0
        members, taken = filling.get(key, ([], 0))
        if slab.fused is None or slab.param_dtype != slab.dtype or size >= CACHED:
            result.append([slab])
            continue
        if not members or taken + size > CACHED:
            members, taken = [], 0
            result.append(members)
        members.append(slab)
        filling[key] = (members, taken + size)
    return [Convoy(members) for members in result]
