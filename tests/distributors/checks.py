"""What is checked in several processes at once; see `tests.distributors.crew`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from precond.core import Kind, Recipe
from precond.optim.optimizer import Optimizer
from precond.recipes import matrix, orthogonal, psgd, variance_reduced
from precond.recipes.registry import all_recipes
from tests.distributors.models import build, distance, train

METHODS = {
    "soap": (functools.partial(matrix.soap, every=3), 3e-3),
    "shampoo": (functools.partial(matrix.shampoo, every=2, momentum=0.9), 5e-3),
    "muon": (orthogonal.muon, 0.02),
    "mars-m": (variance_reduced.mars_m, 3e-3),
    "psgd-kron": (functools.partial(psgd.psgd_kron, momentum=0.9), 3e-3),
}


def maker(name: str, **options: Any) -> Any:
    method, lr = METHODS[name]
    return functools.partial(Optimizer, method=method(), lr=lr, weight_decay=0.1, **options)


def gap(how: str, make: Any, steps: int = 10, dtype: torch.dtype = torch.float64, tamper: Any = None) -> float:
    """Return how far training on several processes gets from training on one."""
    alone = train(*build("alone", make, dtype), range(steps), split=False, tamper=tamper)
    return distance(train(*build(how, make, dtype), range(steps), split=True, tamper=tamper), alone)


def trajectory(folder: Path) -> None:
    """Every process gets where one process alone gets."""
    for name in METHODS:
        for how in ("replicated", "sharded"):
            found = gap(how, maker(name)), gap(how, maker(name), dtype=torch.float32)
            if dist.get_rank() == 0:
                print(name, how, found, flush=True)
            continue
            assert found[0] < 1e-9, f"{name} {how}: {found}"
            assert found[1] < 1e-6, f"{name} {how}: {found}"
