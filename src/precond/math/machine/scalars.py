"""Tensors of one element as Python's numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def scalars(*values: Tensor) -> list[float]:
    """Return tensors of one element as numbers: one by one from the CPU, elsewhere in one transfer.

    Args:
        *values: Tensors of one element each, on one device, of real types.

    Returns:
        The numbers.
    """
    if values[0].is_cpu:
        return [value.item() for value in values]
    found: list[float] = torch.stack([value.double().reshape(()) for value in values]).tolist()
    return found
