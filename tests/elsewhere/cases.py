"""Runs cases on the pretended device, in a process of its own, and prints what came of each as JSON."""

from __future__ import annotations

import inspect
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import precond
from precond.core import Kind
from precond.optim.optimizer import Optimizer
from precond.recipes.registry import all_recipes
from tests.elsewhere.device import BROUGHT, READ, Elsewhere, pretended

SHAPES = [(8, 6), (8, 6), (12,), (4, 3, 2), (), (0, 3)]
STEPS = 13
Case = Callable[[], dict[str, Any]]


def method(name: str) -> Any:
    """Return a method whose refreshes leave steps between them; M-FAC then needs its steps damped."""
    build = all_recipes()[name].build
    settings = {"every": 10, **({"damping": 1.0} if name.endswith("m-fac") else {})}
    return build(**{key: value for key, value in settings.items() if key in inspect.signature(build).parameters})


def trained(name: str, device: Any) -> tuple[list[Tensor], list[list[str]]]:
    """Return parameters after some steps, and what each step waited for."""
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape).to(device)) for shape in SHAPES]
    wanted = [[torch.randn(shape) for shape in SHAPES] for _ in range(STEPS)]
    named = [(f"weight{i}", param) for i, param in enumerate(params)]
    optimizer = Optimizer(named, method(name), lr=1e-2, weight_decay=0.01)
    waits = []
    for batch in wanted:
        targets = [target.to(device) for target in batch]

        def closure(targets: list[Tensor] = targets) -> Tensor:
            optimizer.zero_grad()
            gaps = [(param - target) ** 2 for param, target in zip(params, targets, strict=True)]
            loss = torch.stack([gap.sum() for gap in gaps]).sum()
            loss.backward(create_graph=torch.is_grad_enabled() and optimizer.replays)
            return loss

        READ.clear()
        optimizer.step(closure)
        waits.append(list(READ))
    return params, waits


def optimizers() -> dict[str, Case]:
    """Return every method that trains; what is found is how far its parameters are from those of the processor."""

    def case(name: str) -> dict[str, Any]:
        expected, _ = trained(name, "cpu")
        with pretended() as device:
            found, waits = trained(name, device)
        pairs = [(a.detach(), _here(b)) for a, b in zip(expected, found, strict=True) if a.numel()]
        return {"gap": max(float((a - b).abs().max()) for a, b in pairs), "waits": waits}

    names = [name for name, recipe in all_recipes().items() if Kind.TRAINING in recipe.runs_on]
    return {name: lambda name=name: case(name) for name in names}


def linear() -> dict[str, Case]:
    """Return ways to solve with a matrix, each as the residual and the status that were found."""
    torch.manual_seed(0)
    n = 60
    factor = torch.randn(n, n, dtype=torch.float64)
    definite, b = factor @ factor.mT + n * torch.eye(n, dtype=torch.float64), torch.randn(n, dtype=torch.float64)

    def case(matrix: Tensor, rhs: Tensor, call: Callable[[Tensor, Tensor], Any]) -> dict[str, Any]:
        with pretended() as device:
            BROUGHT.clear()
            result = call(matrix.to(device), rhs.to(device))
            brought = list(BROUGHT)
            x = _here(result.x)
        product = matrix @ x if x.ndim == matrix.ndim else (matrix @ x.unsqueeze(-1)).squeeze(-1)
        residual = float(torch.linalg.vector_norm(product - rhs) / torch.linalg.vector_norm(rhs))
        there = isinstance(result.x, Elsewhere)
        return {"residual": residual, "status": result.status.name, "there": there, "brought": brought}

    def pairs(matrix: Tensor) -> dict[str, Any]:
        with pretended() as device:
            result = precond.eigsh(matrix.to(device), 3)
            values, vectors = _here(result.values), _here(result.x)
        residual = float(torch.linalg.matrix_norm(matrix @ vectors - vectors * values) / values.abs().max())
        return {"residual": residual, "status": result.status.name, "there": True}

    cases: dict[str, Case] = {}
    for name, recipe in all_recipes().items():
        if Kind.LINEAR_SYSTEM not in recipe.runs_on:
            continue
        options = {"method": name} if recipe.builds is precond.core.Builds.ITERATION else {"preconditioner": name}
        if "preconditioner" in options:
            options["method"] = "gmres"
        cases[name] = lambda options=options: case(definite, b, lambda A, v: precond.solve(A, v, **options))
    cases["auto"] = lambda: case(definite, b, precond.solve)
    cases["auto, not symmetric"] = lambda: case(factor, b, precond.solve)
    cases["auto, single precision"] = lambda: case(
        definite.float(), b.float(), lambda A, v: precond.solve(A, v, rtol=1e-5)
    )
    columns = torch.randn(n, 4, dtype=torch.float64)
    cases["many columns"] = lambda: case(definite, columns, precond.solve)
    cases["eigenvalues"] = lambda: pairs(definite)
    cases["a batch"] = lambda: case(definite.expand(3, n, n).clone(), b.expand(3, n).clone(), precond.solve)
    return cases


def survival() -> dict[str, Case]:
    """Return steps of some methods with gradients of which some are not finite."""

    def case(spoiled: list[bool]) -> dict[str, Any]:
        norms, moved, skipped = [], [], 0
        with pretended() as device:
            for name in ("soap", "adamw", "lion", "adan"):
                params = [torch.nn.Parameter(torch.ones(4, 3, device=device)) for _ in spoiled]
                optimizer = Optimizer(params, all_recipes()[name].build(), lr=1e-2)
                for _ in range(3):
                    for param, bad in zip(params, spoiled, strict=True):
                        param.grad = torch.full((4, 3), torch.inf if bad else 1.0, device=device)
                    optimizer.step()
                skipped += optimizer.work.skipped
                norms += [float(_here(param).norm()) for param in params]
                moved.append([bool((_here(param) != 1).any()) for param in params])
        assert all(each == moved[0] for each in moved), moved
        return {"norms": norms, "moved": moved[0], "spoiled": spoiled, "skipped": skipped, "bad": 12 * sum(spoiled)}

    return {
        "a gradient that is not finite": lambda: case([False, True, False]),
        "all of them": lambda: case([True, True, True]),
    }


def _here(tensor: Any) -> Tensor:
    assert isinstance(tensor, Elsewhere), f"it should be on the device, and is on {tensor.device}"
    return tensor.here.detach()


def main(group: str) -> None:
    """Print the outcome of every case of a group, and leave without torch's farewell to a device that never was."""
    warnings.simplefilter("ignore")
    for name, case in globals()[group]().items():
        try:
            outcome = case()
        except Exception as error:
            lines = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
            outcome = {"error": f"{type(error).__name__}: {error}", "at": lines[-3:]}
        print(json.dumps({"name": name, **outcome}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
