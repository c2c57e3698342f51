"""Whether gradients on other devices than the processor are finite and not huge, asked once a step.

On the processor each slab is checked on its way, while its gradient is in a cache. Elsewhere every number that is read
back keeps the processor from running ahead of the device, so that all gradients are asked about together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from precond.math.norms import largest_usable


def trusted_devices(params: Iterable[Tensor]) -> frozenset[torch.device]:
    """Return the devices on which all gradients that parameters carry are finite and not huge.

    Args:
        params: Parameters that do not live on the processor; those without a gradient do not count.

    Returns:
        The devices, from one number of each.
    """
    there: dict[torch.device, list[Tensor]] = {}
    for param in params:
        gradient = param.grad
        if gradient is not None and gradient.layout is torch.strided:
            there.setdefault(gradient.device, []).append(gradient)
    return frozenset(device for device, gradients in there.items() if _finite(gradients))


def _finite(gradients: list[Tensor]) -> bool:
    filled = [gradient for gradient in gradients if gradient.numel()]
    if not filled:
        return True
    largest = torch._foreach_norm(filled, math.inf)  # NaN, where there is one
    limit = min(largest_usable(torch.promote_types(gradient.dtype, torch.float32)) for gradient in filled)
    return torch.stack([norm.to(torch.float64) for norm in largest]).amax().item() < limit  # not so for NaN
