"""What a step tells the parts of a slab's method, beside the gradient itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from precond.core import Evidence, Need
from precond.math.norms import usable_members
from precond.optim.replay import Seen, clipped
from precond.optim.slab import Slab
from precond.optim.slab_state import SlabState


def evidence(
    slab: Slab,
    state: SlabState,
    gradient: Tensor,
    members: Sequence[int],
    seen: Seen,
    decay: Tensor | None = None,
) -> Evidence:
    """Return what this step's gradient tells, with all that the parts need beside it.

    Args:
        slab: The slab.
        state: The working state of the members.
        gradient: Their gradients, stacked, after `Decay.regularize`.
        members: Which members.
        seen: What was evaluated beside the gradients.
        decay: What regularizing added to the gradient, which gradients at other weights then get too.

    Returns:
        The evidence.
    """
    previous, absorbed = state.previous, slab.absorbed(members)
    if previous is not None:
        previous = _or_gradient(list(map(bool, absorbed)), previous, gradient)
    return Evidence(
        gradient=gradient,
        previous=previous,
        loss=seen.loss,
        absorbed=absorbed,
        probe=_probed(slab, members, seen),
        lookback=_further(slab, Need.LOOKBACK, gradient, members, seen, decay),
        another=_further(slab, Need.ANOTHER, gradient, members, seen, decay),
    )


def _probed(slab: Slab, members: Sequence[int], seen: Seen) -> tuple[Tensor, Tensor] | None:
    """Return the probes of the members and what the Hessian makes of them."""
    if seen.probe is None or Need.PROBE not in slab.method.needs:
        return None
    pairs = [seen.probe[slab.params[i]] for i in members]
    return slab.gather([v for v, _ in pairs], members), slab.gather([hv for _, hv in pairs], members)


def _further(
    slab: Slab, need: Need, gradient: Tensor, members: Sequence[int], seen: Seen, decay: Tensor | None
) -> Tensor | None:
    """Return the gradient of a second evaluation that the method needs; this step's where it is lacking, or bad."""
    if need not in slab.method.needs:
        return None
    if need not in seen.further:
        return gradient
    found = seen.further[need]
    other = slab.gather([found.gradients[slab.params[i]] for i in members], members)
    other = clipped(other, slab.method.clip, found.norm)
    other = other if decay is None else other + decay
    return _or_gradient(usable_members(other).tolist(), other, gradient)


def _or_gradient(good: Sequence[bool], other: Tensor, gradient: Tensor) -> Tensor:
    """Return ``other`` for the members where that is good, the gradient for the rest."""
    if all(good):
        return other
    mask = torch.tensor(list(good), device=gradient.device)
    return torch.where(mask.view(-1, *[1] * (gradient.ndim - 1)), other, gradient)
