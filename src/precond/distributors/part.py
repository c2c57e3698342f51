"""What this process holds of a tensor, whether it is sharded or not."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def part_here(tensor: Tensor) -> Tensor:
    """Return the part of a DTensor that lies here, and any other tensor as it is."""
    if not hasattr(tensor, "device_mesh"):
        return tensor
    sharded: Any = tensor
    part: Tensor = sharded.to_local()
    return part
