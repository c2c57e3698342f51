"""Norms of the members of a batch."""

from __future__ import annotations

import torch
from torch import Tensor


def member_norm(v: Tensor) -> Tensor:
    """Return the Euclidean norm of each member of ``[batch, *shape]``, as ``[batch, 1, ..., 1]`` to broadcast."""
    if v.ndim == 1:  # an empty list of axes would mean all of them
        return v.abs()
    return torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)
