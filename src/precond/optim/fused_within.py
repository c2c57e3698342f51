"""Adam as one kernel within a step: between entering SOAP's basis and leaving it, or behind a filter as in MARS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import Method
from precond.filters.ema import EMA
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.rotate import Rotate


def adam_within(method: Method, turned: Any) -> Callable[[Any, Any, Tensor], Tensor] | None:
    """Return Adam as one kernel, if that is what a method is, perhaps in turning coordinates: SOAP.

    Args:
        method: The method.
        turned: Its preconditioner, if the momentum is averaged in its coordinates.

    Returns:
        From the states of the preconditioner and the momentum, and a gradient in these coordinates, to the direction in
        them; absorbs the gradient into both averages. A basis must observe by itself.
    """
    average, squares = method.momentum, method.preconditioner
    rotated = isinstance(turned, Rotate)
    if isinstance(turned, Rotate):
        squares = turned.inner
    if not isinstance(squares, Diagonal) or not isinstance(average, EMA):
        return None
    if method.storage.encodes or not (average.debias and squares.debias) or squares.beta >= 1.0:
        return None

    def direct(preconditioner: Any, momentum: Any, within: Tensor) -> Tensor:
        state = preconditioner.inner if rotated else preconditioner
        torch._foreach_add_((momentum.steps, state.steps), 1)
        direction = torch.zeros_like(state.second_moment)
        if within.dtype != direction.dtype or not within.is_contiguous():
            within = within.to(direction.dtype).contiguous()
        tensors = (direction, within, momentum.average, state.second_moment)
        for age, (outs, grads, averages, seconds) in _by_age(tensors, state.steps.tolist()):
            root = math.sqrt(1.0 - squares.beta ** max(1, age)) if squares.eps_first else 1.0
            steps = [torch.tensor(float(age), device=direction.device)] * len(outs)
            torch._fused_adamw_(
                outs, grads, averages, seconds, [], steps, lr=-1.0, beta1=average.beta, beta2=squares.beta,
                weight_decay=0.0, eps=squares.eps / root, amsgrad=False, maximize=False,
            )  # fmt: skip
        # Torch does not count the writes of its fused kernels, and whoever wakes members goes by the count.
        torch.autograd.graph.increment_version((momentum.average, state.second_moment))
        return direction

    return direct


def _by_age(tensors: Sequence[Tensor], ages: Sequence[int]) -> Iterator[tuple[int, list[list[Tensor]]]]:
    """Yield each age and lists of what tensors hold for its members: whole batches, where all are of one age.

    Members of different ages have different bias corrections.
    """
    found = set(ages)
    if len(found) == 1:
        yield ages[0], [[tensor] for tensor in tensors]
        return
    unbound = [tensor.unbind(0) for tensor in tensors]
    for age in found:
        yield age, [[values[i] for i, n in enumerate(ages) if n == age] for values in unbound]
