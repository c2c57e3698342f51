"""The states of parameters as views of slabs: what `state_dict` saves, and the bytes that it takes."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from torch import Tensor

from precond.core import Distributor, named_tensors
from precond.optim.layout import Layout
from precond.optim.replay import remembered
from precond.optim.slab import Slab


def fill(layout: Layout, states: MutableMapping[Tensor, dict[str, Any]], distributor: Distributor) -> None:
    """Put the states that parameters have into the slabs of a new layout, and make them views of these.

    Args:
        layout: The layout.
        states: The state of each parameter, by dotted names; replaced.
        distributor: Where the parameters live.
    """
    for slab in layout.slabs:
        for member, param in enumerate(slab.params):
            had = states.get(param, {})
            slab.restore(member, {name: distributor.inward(param, value) for name, value in had.items()})
            views = slab.named_views(member)
            views = {name: distributor.outward(param, view) for name, view in views.items()}
            states[param] = views | remembered(param, had)
        slab.read_counters()
    for param, count in layout.counts.items():
        had = states.get(param, {})
        if "step" in had:
            count.copy_(had["step"])
        states[param] = {"step": count, **remembered(param, had)}


def bytes_of(slabs: Sequence[Slab], states: Mapping[Tensor, dict[str, Any]]) -> int:
    """Return the bytes that the states of slabs take, with what the next step remembers."""
    tensors = [tensor for slab in slabs for _, tensor in named_tensors(slab.state)]
    tensors += [tensor for slab in slabs for tensor in slab.notes]
    tensors += [tensor for param, state in states.items() for tensor in remembered(param, state).values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
