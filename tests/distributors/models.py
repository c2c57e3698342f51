"""A small network, its data split over processes, and its single-process trajectory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from precond.distributors.data_parallel import DataParallel

ROWS = 32


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return a network in which shapes repeat, no side is a multiple of four, and one has fewer rows than processes."""
    torch.manual_seed(0)
    layers = [nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 10), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(10, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)


def batch(step: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return the inputs and targets of one step."""
    generator = torch.Generator().manual_seed(100 + step)
    x = torch.randn(ROWS, 6, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.randn(ROWS, 3, generator=generator, dtype=torch.float64).to(dtype)


def mine(tensor: Tensor) -> Tensor:
    """Return the rows of a batch that belong to this process."""
    return tensor.chunk(dist.get_world_size())[dist.get_rank()]


Make = Callable[[nn.Module], torch.optim.Optimizer]
Tamper = Callable[[nn.Module, int], None]


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: range,
    split: bool,
    tamper: Tamper | None = None,
    rows: slice = slice(None),
) -> nn.Module:
    """Train, on this process's rows alone where the batch is split; ``tamper`` may change the gradients."""
    dtype = next(model.parameters()).dtype
    for step in steps:
        x, y = batch(step, dtype)
        x, y = (mine(x), mine(y)) if split else (x[rows], y[rows])

        def closure(x: Tensor = x, y: Tensor = y, step: int = step) -> Tensor:
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            if tamper is not None:
                tamper(model, step)
            return loss

        optimizer.step(closure)
    return model


def sharded(model: nn.Module, mesh: Any = None) -> nn.Module:
    """Shard a network over the processes, every layer by itself."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),)) if mesh is None else mesh
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def replicated(model: nn.Module) -> nn.Module:
    """Let the processes average their gradients."""
    return nn.parallel.DistributedDataParallel(model)


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that may be sharded."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach()


def distance(model: nn.Module, reference: nn.Module) -> float:
    """Return the largest difference between the weights of two networks."""
    pairs = zip(model.parameters(), reference.parameters(), strict=True)
    return max(float((whole(p) - whole(q)).abs().max()) for p, q in pairs)


def build(how: str, make: Callable[..., torch.optim.Optimizer], dtype: torch.dtype = torch.float64) -> tuple[Any, Any]:
    """Return a network and its optimizer: ``"alone"``, ``"replicated"`` (DDP) or ``"sharded"`` (FSDP2)."""
    model = network(dtype)
    if how == "alone":
        return model, make(model.named_parameters())
    if how == "replicated":
        return replicated(model), make(model.named_parameters(), distributor=DataParallel())
    return sharded(model), make(model.named_parameters())
