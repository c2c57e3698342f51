"""Which parameters share a slab, and when each is refreshed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from precond.core import Method, Scope
from precond.optim.flat import FlatSlab
from precond.optim.fused import fused_step
from precond.optim.rules import Rule
from precond.optim.slab import Slab, slab_room, working_dtype
from precond.optim.stagger import phases, refresh_cost

Key = tuple[Any, ...]


def named(group: dict[str, Any]) -> Iterable[tuple[str, Tensor]]:
    """Return name and parameter of each parameter of a group; names are empty where there are none."""
    names = group.get("param_names") or [""] * len(group["params"])
    return zip(names, group["params"], strict=True)


def lay_out(
    groups: Sequence[dict[str, Any]], rules: Sequence[Rule], states: Mapping[Tensor, Any], backend: str | None = None
) -> list[Slab]:
    """Group the parameters that have a gradient or a state into slabs with fresh state.

    A global method has all parameters that train from the start, once one of them has a gradient.

    Args:
        groups: Parameter groups.
        rules: Which method the parameters of each group follow.
        states: What is known of each parameter from earlier steps.
        backend: What compiles the work of slabs; ``None`` for nothing.

    Returns:
        Slabs in the order of their first parameters, flat ones last; the refreshes of a method's tensors are spread
        over its interval.
    """
    places: dict[Key, list[Tensor]] = {}
    chosen: dict[Key, Method] = {}
    count: dict[Key, int] = {}
    whole: dict[Key, list[tuple[str, Tensor]]] = {}
    for index, group in enumerate(groups):
        for name, param in named(group):
            present = param.grad is not None or bool(states.get(param))
            if param.numel() == 0 or not (present or param.requires_grad):
                continue
            method = rules[index].method_for(name, param)
            if method.preconditioner.scope is Scope.GLOBAL:
                key = (index, id(method), param.device, working_dtype(param.dtype))
                whole.setdefault(key, []).append((name, param))
                chosen[key] = method
                continue
            if not present:
                continue
            alike = (index, id(method), tuple(param.shape), param.dtype, param.device)
            count[alike] = count.get(alike, -1) + 1
            room = None if fused_step(method) is not None else slab_room(param)
            key = (*alike, count[alike] // (room or len(group["params"])))
            places.setdefault(key, []).append(param)
            chosen[key] = method
    offsets = _offsets(places, chosen)
    slabs = [Slab(params, chosen[key], key[0], offsets[key], backend) for key, params in places.items()]
    for key, known in whole.items():
        if any(param.grad is not None or states.get(param) for _, param in known):
            slabs.append(FlatSlab(known, chosen[key], key[0], states))
    return slabs


def _offsets(places: dict[Key, list[Tensor]], chosen: dict[Key, Method]) -> dict[Key, list[int]]:
    """Return the phase of each parameter within the refresh interval of its method."""
    offsets = {key: [0] * len(params) for key, params in places.items()}
    for method in {id(m): m for m in chosen.values()}.values():
        mine = [(key, i) for key, params in places.items() if chosen[key] is method for i in range(len(params))]
        spread = phases([refresh_cost(key[2]) for key, _ in mine], method.cadence.every)
        for (key, i), phase in zip(mine, spread, strict=True):
            offsets[key][i] = phase
    return offsets
