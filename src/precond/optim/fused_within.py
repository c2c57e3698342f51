"""Adam in turning coordinates as one kernel: what SOAP does between entering its basis and leaving it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.core import Method
from precond.filters.ema import EMA
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.rotate import Rotate


def adam_within(method: Method, turned: Any) -> Callable[[Any, Any, Tensor], Tensor] | None:
    """Return Adam in turning coordinates as one kernel, if that is what a method is: SOAP.

    Args:
        method: The method.
        turned: Its preconditioner, if the momentum is averaged in its coordinates.

    Returns:
        From the states of the preconditioner and the momentum, and a gradient in these coordinates, to the direction in
        them; absorbs the gradient into both averages. The basis must observe by itself.
    """
    average = method.momentum
    if not isinstance(turned, Rotate) or not isinstance(turned.inner, Diagonal) or not isinstance(average, EMA):
        return None
    squares = turned.inner
    if method.storage.encodes or not (average.debias and squares.debias) or squares.beta >= 1.0:
        return None

    def direct(preconditioner: Any, momentum: Any, within: Tensor) -> Tensor:
        state = preconditioner.inner
        momentum.steps.add_(1)
        state.steps.add_(1)
        direction = torch.zeros_like(state.second_moment)
        within = within.to(direction.dtype).contiguous()
        lists = [tensor.unbind(0) for tensor in (direction, within, momentum.average, state.second_moment)]
        counts, ages = state.steps.to(torch.float32).unbind(0), state.steps.tolist()
        for age in set(ages):  # members of different ages have different bias corrections
            chosen = [[values[i] for i, n in enumerate(ages) if n == age] for values in (*lists, counts)]
            root = math.sqrt(1.0 - squares.beta ** max(1, age)) if squares.eps_first else 1.0
            outs, grads, averages, seconds, steps = chosen
            torch._fused_adamw_(
                outs, grads, averages, seconds, [], steps, lr=-1.0, beta1=average.beta, beta2=squares.beta,
                weight_decay=0.0, eps=squares.eps / root, amsgrad=False, maximize=False,
            )  # fmt: skip
        # Torch does not count the writes of its fused kernels, and whoever wakes members goes by the count.
        torch.autograd.graph.increment_version((momentum.average, state.second_moment))
        return direction

    return direct
