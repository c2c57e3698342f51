"""Random numbers that a counter determines, so that a run resumed from its state repeats itself."""

from __future__ import annotations

import torch
from torch import Tensor


def normals(steps: Tensor, like: Tensor, stream: int = 0) -> Tensor:
    """Return normal numbers shaped like ``like``; the draw of a member depends on its own counter alone.

    Args:
        steps: Counters, ``[batch]``.
        like: What the numbers are to look like, ``[batch, *shape]``.
        stream: Tells apart several draws of one step.

    Returns:
        The numbers, drawn in single precision.
    """
    drawn: dict[int, Tensor] = {}
    for step in set(steps.tolist()):
        generator = torch.Generator(like.device).manual_seed(2**20 * step + stream)
        drawn[step] = torch.randn(like.shape[1:], generator=generator, device=like.device).to(like.dtype)
    return torch.stack([drawn[step] for step in steps.tolist()])
