"""How many bytes of state a method will take, before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from precond.core import BadInputError, Method, Need, Route, Scope, named_tensors
from precond.optim.flat import PLACE_BYTES
from precond.optim.rules import Rule
from precond.optim.slab_state import allocate, slab_shape, working_dtype

Model = nn.Module | Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]


def estimate_memory(model: Model, method: Method | Route | None = None) -> int:
    """Return the bytes of optimizer state for training ``model`` with ``method``, exact and without allocating.

    Args:
        model: A module, pairs of name and parameter, or the groups that `groups_for` made; only parameters that require
            a gradient count.
        method: The method or route, as for `Optimizer`; may be left out where every group has one.

    Returns:
        Bytes, equal to ``Optimizer.state_bytes()`` once every parameter has had a gradient.
    """
    total, weights, needs = 0, 0, Need.NOTHING
    whole: dict[tuple[int, int, torch.device, torch.dtype], tuple[Method, int]] = {}
    for home, name, param, rule in _ruled(model, method):
        if not param.requires_grad or not param.numel():
            continue
        chosen, dtype = rule.method_for(name, param), working_dtype(param.dtype)
        needs |= chosen.needs
        weights += param.numel() * param.element_size()
        if chosen.preconditioner.scope is Scope.GLOBAL:
            key = (home, id(chosen), param.device, dtype)
            _, entries = whole.get(key, (chosen, 0))
            whole[key] = chosen, entries + param.numel()
            total += PLACE_BYTES
        else:
            total += _bytes(chosen, slab_shape(1, param), dtype)
    total += sum(_bytes(chosen, (1, entries), dtype) for (*_, dtype), (chosen, entries) in whole.items())
    return total + (weights if Need.LOOKBACK in needs else 0)


def _ruled(model: Model, method: Method | Route | None) -> Iterator[tuple[int, str, Tensor, Rule]]:
    """Yield the number of the group, name, parameter and the rule that it falls under."""
    if not isinstance(model, nn.Module | Iterable):
        raise BadInputError(f"give a module, named parameters or groups, not {type(model).__name__}")
    entries: list[Any] = list(model.named_parameters() if isinstance(model, nn.Module) else model)
    groups = entries if entries and isinstance(entries[0], Mapping) else [{"params": entries}]
    for home, group in enumerate(groups):
        rule = Rule.of(group, method)
        for entry in group["params"]:
            name, param = entry if isinstance(entry, tuple) else ("", entry)
            yield home, name, param, rule


def _bytes(method: Method, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    state = allocate(method, torch.empty(shape, dtype=dtype, device="meta"))
    return sum(t.numel() * t.element_size() for _, t in named_tensors(state))
