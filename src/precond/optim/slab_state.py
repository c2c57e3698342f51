"""What a slab keeps between steps: which tensors, of which shape and dtype, under which names."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from precond.core import Health, Method, Need, Turned, put_to_rest

_WORKING = {torch.float64: torch.float64}


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which steps are computed for parameters of ``dtype``: at least float32."""
    return _WORKING.get(dtype, torch.float32)


@dataclasses.dataclass
class SlabState:
    """What rests between steps; every tensor has one leading entry per parameter.

    Attributes:
        step: Gradients absorbed by each parameter, ``[batch]``.
        clock: Steps in which the slab took part, ``[batch]``, equal entries; schedules refreshes.
        failures: Refreshes of each parameter that failed, so that its last good factors stayed, ``[batch]``.
        phase: When each parameter is refreshed within the interval, ``[batch]``; kept for life, whatever joins later.
        preconditioner: State of the preconditioner.
        filters: States of the filters by slot.
        rule: State of the step rule.
        previous: The gradient of the step before, ahead of the estimator, if a part needs it.
    """

    step: Tensor
    clock: Tensor
    failures: Tensor
    phase: Tensor
    preconditioner: Any
    filters: dict[str, Any]
    rule: Any
    previous: Tensor | None


CACHED = 2**18
"""Entries of a slab beyond which, on a processor, stacking more tensors costs memory traffic and gains no calls."""


def slab_room(param: Tensor) -> int | None:
    """Return how many parameters like this one to stack at most; ``None`` for any number."""
    return max(1, CACHED // max(1, param.numel())) if param.device.type == "cpu" else None


def slab_shape(batch: int, param: Tensor) -> tuple[int, ...]:
    """Return the shape of ``batch`` stacked parameters; scalars count as vectors of length one."""
    return (batch, *(param.shape or (1,)))


def allocate(method: Method, like: Tensor) -> SlabState:
    """Return the fresh state of ``method`` for parameters stacked like ``like``; works on the meta device too."""
    turned = turned_momentum(method)
    homes = {} if turned is None else {"momentum": turned.coordinates(like)}
    counter = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)
    state = SlabState(
        step=counter,
        clock=counter.clone(),
        failures=counter.clone(),
        phase=counter.clone(),
        preconditioner=method.preconditioner.init(like),
        filters={slot: filter_.init(homes.get(slot, like)) for slot, filter_ in method.filters.items()},
        rule=method.step.init(like),
        previous=torch.zeros_like(like) if Need.PREVIOUS in method.needs else None,
    )
    return put_to_rest(method.storage, state)


def turned_momentum(method: Method) -> Turned[Any] | None:
    """Return the preconditioner if the momentum is averaged in its coordinates, which saves entering them twice.

    That is the same method to rounding, where the momentum commutes with turns, and where no refresh comes between
    observing and applying.
    """
    preconditioner, momentum = method.preconditioner, method.momentum
    fits = momentum is not None and momentum.equivariant and method.refreshes_after
    return preconditioner if isinstance(preconditioner, Turned) and fits else None


def count_failures(failures: Tensor, health: Health) -> None:
    """Add one to the counters of the members that a refresh failed for; of all, if nobody told them apart."""
    if health.failures:
        failures.add_(1 if health.members is None else health.members.to(failures.dtype))


def short_name(name: str) -> str:
    """Return the name under which a tensor of a slab's state is saved."""
    return name.removeprefix("filters.")
