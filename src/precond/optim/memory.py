"""How many bytes of state a method will take, before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from precond.core import Method, Need, Route, named_tensors
from precond.optim.rules import Rule
from precond.optim.slab import allocate, slab_shape, working_dtype


def estimate_memory(model: nn.Module | Iterable[tuple[str, Tensor]], method: Method | Route) -> int:
    """Return the bytes of optimizer state for training ``model`` with ``method``, exact and without allocating.

    Args:
        model: A module, or pairs of name and parameter; only parameters that require a gradient count.
        method: The method or route, as for `Optimizer`.

    Returns:
        Bytes, equal to ``Optimizer.state_bytes()`` once every parameter has had a gradient.
    """
    named = model.named_parameters() if isinstance(model, nn.Module) else model
    rule, total, weights, needs = Rule(method), 0, 0, Need.NOTHING
    for name, param in named:
        if not param.requires_grad or not param.numel():
            continue
        chosen = rule.method_for(name, param)
        needs |= chosen.needs
        weights += param.numel() * param.element_size()
        like = torch.empty(slab_shape(1, param), dtype=working_dtype(param.dtype), device="meta")
        total += sum(t.numel() * t.element_size() for _, t in named_tensors(allocate(chosen, like)))
    return total + (weights if Need.LOOKBACK in needs else 0)
