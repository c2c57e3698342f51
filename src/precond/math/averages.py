"""Bias corrections of exponential moving averages that started at zero."""

from __future__ import annotations

import torch
from torch import Tensor


def debias(beta: float, steps: Tensor, like: Tensor) -> Tensor:
    """Return ``1 - beta^steps``, the weight that an average has gathered, ready to divide by.

    The power is taken in float64, so that float32 averages are corrected to rounding.

    Args:
        beta: Decay of the average, in ``[0, 1)``.
        steps: How many vectors each member has absorbed, shape ``[batch]``, integers; 0 counts as 1.
        like: The average, shape ``[batch, *shape]``.

    Returns:
        Shape ``[batch, 1, ..., 1]``, in the dtype of ``like``.
    """
    if steps.device.type == "cpu" and not torch.compiler.is_compiling():  # calls cost more than a few numbers
        weights = [1.0 - beta ** max(1, step) for step in steps.tolist()]
        return torch.tensor(weights, dtype=like.dtype).view(-1, *(1,) * (like.ndim - 1))
    weight = 1.0 - torch.pow(beta, steps.clamp(min=1).to(torch.float64))
    return weight.to(like.dtype).view(-1, *(1,) * (like.ndim - 1))
