"""Ordinary parameters of which several processes have equal copies."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor

from precond.core import IncompatibleError
from precond.distributors.sharded import Sharded


class DataParallel(Sharded):
    """Replicas with equal gradients, as `torch.nn.parallel.DistributedDataParallel` leaves them.

    Each tensor that a method must see whole is owned by one process, which keeps its state and sends its direction to
    the others; what looks at entries alone is computed by all. DTensors are placed as `Sharded` does.

    A process that lacks a gradient is given that of another one.

    Args:
        group: The processes with copies; all unless given.
    """

    def __init__(self, group: Any = None) -> None:
        super().__init__()
        self.group = group

    def _group(self, param: Tensor) -> Any:
        if hasattr(param, "device_mesh"):
            return super()._group(param)
        if not dist.is_initialized():
            raise IncompatibleError("no process group: call torch.distributed.init_process_group before the first step")
        return self.group or dist.group.WORLD
