"""What is checked in several processes at once; see `tests.distributors.crew`."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as dsd
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from precond.core import Duty, IncompatibleError, Kind, Method
from precond.distributors.boxes import box_at
from precond.filters.ema import EMA
from precond.optim.optimizer import Optimizer
from precond.preconditioners.polar import Polar
from precond.recipes import first_order, matrix, noise_adaptive, orthogonal, psgd, variance_reduced
from precond.recipes.registry import all_recipes
from precond.steps.decay import Coupled
from precond.steps.noise_adaptive import NoiseAdaptive
from tests.distributors.models import build, distance, network, sharded, train, whole

METHODS = {
    "soap": (functools.partial(matrix.soap, every=3), 3e-3),
    "shampoo": (functools.partial(matrix.shampoo, every=2, momentum=0.9), 5e-3),
    "muon": (orthogonal.muon, 0.02),
    "mars-m": (variance_reduced.mars_m, 3e-3),
    "psgd-kron": (functools.partial(psgd.psgd_kron, momentum=0.9), 3e-3),
}
SEVERAL = ("replicated", "sharded")


def maker(name: str) -> Any:
    """Return what makes the optimizer of a method from named parameters."""
    method, lr = METHODS[name]
    return functools.partial(Optimizer, method=method(), lr=lr, weight_decay=0.1)


def gap(how: str, make: Any, steps: int = 7, **options: Any) -> float:
    """Return how far training on several processes gets from training on one."""
    dtype = options.pop("dtype", torch.float64)
    tamper, expected = options.pop("tamper", None), options.pop("expected", None)
    alone = train(*build("alone", make, dtype), range(steps), split=False, tamper=expected)
    split = options.pop("split", True)
    return distance(train(*build(how, make, dtype), range(steps), split=split, tamper=tamper), alone)


# --- trajectories -----------------------------------------------------------------------------------------------------


def trajectories(folder: Path) -> None:
    """Processes that share a batch get where one process gets with all of it."""
    for name in METHODS:
        for how in SEVERAL:
            assert gap(how, maker(name)) < 1e-9, f"{name}, {how}"


def equal_gradients(folder: Path) -> None:
    """In single precision too, where gradients are equal to the last bit: every process has the whole batch."""
    for name in METHODS:
        for how in SEVERAL:
            assert gap(how, maker(name), 5, dtype=torch.float32, split=False) < 1e-6, f"{name}, {how}"


def every_recipe(folder: Path) -> None:
    """Sharded equals whole, for every recipe; one that needs all parameters as one vector trains copies."""
    far: dict[str, float] = {}
    refusals: list[str] = []
    for name, recipe in all_recipes().items():
        if Kind.TRAINING in recipe.runs_on:
            make = functools.partial(Optimizer, method=recipe.build(), lr=1e-3, weight_decay=0.1)
            for how in ("sharded", "replicated"):
                try:
                    far[name] = gap(how, make, 4)
                    break
                except IncompatibleError as error:
                    refusals.append(str(error))
    assert all(re.search("is sharded|probes the Hessian", refusal) for refusal in refusals), refusals
    assert max(far.values()) < 1e-6, far
    assert len(far) > 20


def coupled_decay(folder: Path) -> None:
    """Decay that enters the gradient needs the weights where the gradient is."""
    method = Method(momentum=EMA(0.9), preconditioner=Polar(), decay=Coupled())
    make = functools.partial(Optimizer, method=method, lr=0.01, weight_decay=0.3)
    for how in SEVERAL:
        assert gap(how, make) < 1e-9, how


def joint_clipping(folder: Path) -> None:
    """The norm of all gradients is that of all processes' parts, each counted once; so is that of all estimates."""
    twice = Method(preconditioner=Polar(), step=NoiseAdaptive(), clip_estimates=0.05)  # two numbers to agree on
    for method in (first_order.adan(clip=0.05), variance_reduced.mars_adamw(clip=0.05, clip_together=True), twice):
        make = functools.partial(Optimizer, method=method, lr=3e-3, weight_decay=0.1)
        for how in SEVERAL:
            assert gap(how, make, 4) < 1e-9, how


def one_owner(folder: Path) -> None:
    """Each matrix is preconditioned once a step, by one process, which alone keeps its state; work is balanced."""
    for how in SEVERAL:
        model, optimizer = build(how, maker("muon"))
        train(model, optimizer, range(3), split=True)
        matrices = [p for p in model.parameters() if p.ndim == 2]
        here = torch.tensor([len(optimizer.state[p]) > 1 for p in matrices], dtype=torch.int64)
        dist.all_reduce(here)
        assert here.tolist() == [1] * len(matrices), how
        duties = optimizer._layout.duties
        assert all((duties[p] is Duty.HOLDER) == (p.ndim < 2) for p in model.parameters())
        applies = torch.tensor([optimizer.work.applies - 3 * sum(p.ndim < 2 for p in model.parameters())])
        dist.all_reduce(applies)
        hidden = 3 * len(matrices)
        assert int(applies) == hidden, f"{how}: {int(applies)} applies of {hidden}"
        loads = optimizer.distributor._domains[tuple(range(dist.get_world_size()))].load
        costs = sorted((p.numel() * (1 + sum(p.shape)) + sum(n**3 for n in p.shape) for p in matrices), reverse=True)
        assert sum(loads) == pytest.approx(sum(costs))
        assert max(loads) <= max(4 / 3 * sum(costs) / dist.get_world_size(), costs[0] + costs[-1])


def bytes_are_counted(folder: Path) -> None:
    """What is said to be sent in a step is what the page on sharding says."""
    size = dist.get_world_size()
    for how in SEVERAL:
        model, optimizer = build(how, maker("muon"))
        train(model, optimizer, range(1), split=True)
        before = optimizer.distributor.sent
        train(model, optimizer, range(1, 2), split=True)
        total = torch.tensor([optimizer.distributor.sent - before])
        dist.all_reduce(total)
        params = list(model.parameters())
        matrices = [p for p in params if p.ndim == 2]
        domain = next(iter(optimizer.distributor._domains.values()))
        small = size * (len(params) * (size - 1) + 3 * 8 * len(matrices))  # a flag each, a row of three for the owned
        if how == "replicated":  # a direction to every other process
            large = sum(8 * p.numel() * (size - 1) for p in matrices)
        else:  # the gradient to the owner and the direction back, but for the owner's own part
            large = sum(2 * 8 * (p.numel() - domain.boxes[p][domain.owner[p]].numel) for p in matrices)
        assert int(total) == small + large, f"{how}: {int(total)} bytes, not {small + large}"


# --- meshes -----------------------------------------------------------------------------------------------------------


def boxes(folder: Path) -> None:
    """The part that a box cuts out is the local tensor."""
    size = dist.get_world_size()
    line = init_device_mesh("cpu", (size,))
    grid = init_device_mesh("cpu", (2, size // 2))
    tensor = torch.arange(7.0 * 9).reshape(7, 9)
    cases: list[tuple[Any, list[Any]]] = [(line, [p]) for p in (Shard(0), Shard(1), Replicate())]
    cases += [(grid, [a, b]) for a in (Shard(0), Shard(1), Replicate()) for b in (Shard(0), Shard(1), Replicate())]
    for mesh, placements in cases:
        local = distribute_tensor(tensor, mesh, placements).to_local()
        box = box_at(tensor.shape, tuple(mesh.shape), mesh.get_coordinate(), placements)
        assert torch.equal(box.cut(tensor), local), f"{placements}"


def hybrid(folder: Path) -> None:
    """Copies of shards, on a mesh of two axes."""
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("copies", "shards"))
    for name in ("soap", "mars-m"):
        model = sharded(network(), mesh)
        train(model, maker(name)(model.named_parameters()), range(4), split=True)
        alone = train(*build("alone", maker(name)), range(4), split=False)
        assert distance(model, alone) < 1e-9, name


def tensor_parallel(folder: Path) -> None:
    """Layers split over one axis of a mesh and sharded over the other; the other layers live on one axis alone."""
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("data", "tensor"))

    def wide() -> nn.Module:
        torch.manual_seed(0)
        layers = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)]
        return nn.Sequential(*layers).double()

    for name in METHODS:
        alone = wide()
        train(alone, maker(name)(alone.named_parameters()), range(4), split=False)
        model = parallelize_module(wide(), mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
        fully_shard(model, mesh=mesh["data"])
        optimizer = maker(name)(model.named_parameters())
        rank, half = mesh["data"].get_local_rank(), 16
        steps = range(4)
        train(model, optimizer, steps, split=False, rows=slice(rank * half, (rank + 1) * half))
        assert distance(model, alone) < 1e-9, name


# --- missing and broken gradients -------------------------------------------------------------------------------------


def _own_rows(param: Tensor, rank: int) -> slice:
    length = -(-param.shape[0] // dist.get_world_size())
    return slice(rank * length, (rank + 1) * length)


def missing_gradients(folder: Path) -> None:
    """A gradient that one process lacks is zero in its part, or that of a copy; one that all lack is missing."""

    def lose(model: nn.Module, step: int) -> None:
        named = {name.removeprefix("module."): p for name, p in model.named_parameters()}
        for name in ("2.weight", "2.bias"):
            if step in (1, 2) and dist.get_rank() == 1:
                named[name].grad = None
        if step == 3:
            named["4.weight"].grad = named["4.bias"].grad = None

    def expected(how: str) -> Callable[[nn.Module, int], None]:
        def change(model: nn.Module, step: int) -> None:
            if how == "sharded" and step in (1, 2):
                for param in (model[2].weight, model[2].bias):
                    param.grad[_own_rows(param, 1)] = 0
            if step == 3:
                model[4].weight.grad = model[4].bias.grad = None

        return change

    for name in ("soap", "mars-m", "muon"):
        for how in SEVERAL:
            assert gap(how, maker(name), tamper=lose, expected=expected(how)) < 1e-9, f"{name}, {how}"


def non_finite_gradients(folder: Path) -> None:
    """A gradient that is broken in one process is left out in all, and counted."""

    def everywhere(model: nn.Module, step: int) -> None:
        named = {name.removeprefix("module."): p for name, p in model.named_parameters()}
        for name in ("2.weight", "2.bias", "8.weight"):
            if step == 2:
                named[name].grad.fill_(torch.nan)

    def here(model: nn.Module, step: int) -> None:
        named = {name.removeprefix("module."): p for name, p in model.named_parameters()}
        for name in ("2.weight", "2.bias", "8.weight"):
            gradient = named[name].grad
            if step == 2 and not isinstance(gradient, DTensor):
                gradient.fill_(torch.nan)
            elif step == 2 and dist.get_rank() == 0:
                gradient.to_local()[0] = torch.inf

    for name in ("soap", "mars-m"):
        for how in SEVERAL:
            assert gap(how, maker(name), tamper=here, expected=everywhere) < 1e-9, f"{name}, {how}"
    model, optimizer = build("sharded", maker("mars-m"))
    train(model, optimizer, range(4), split=True, tamper=here)
    skipped = torch.tensor([optimizer.work.skipped])
    dist.all_reduce(skipped)
    assert int(skipped) == 2 + dist.get_world_size()  # matrices by their owners, the vector by everyone


def copies_stay_equal(folder: Path) -> None:
    """Whatever one process does to its gradients alone, all copies take the same step."""

    def spoil(model: nn.Module, step: int) -> None:
        named = {name.removeprefix("module."): p for name, p in model.named_parameters()}
        if step == 2 and dist.get_rank() == 1:
            named["2.weight"].grad.fill_(torch.nan)
            named["4.weight"].grad.fill_(torch.nan)
            named["2.bias"].grad[0] = torch.nan
            named["4.bias"].grad = None

    model, optimizer = build("replicated", maker("mars-m"))
    train(model, optimizer, range(5), split=True, tamper=spoil)
    for param in model.parameters():
        theirs = param.detach().clone()
        dist.broadcast(theirs, 0)
        assert torch.equal(theirs, param)
        assert bool(param.isfinite().all())


# --- checkpoints ------------------------------------------------------------------------------------------------------

SAVED = [(name, how) for name in ("soap", "mars-m") for how in SEVERAL]


def _states(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {"model": dsd.get_model_state_dict(model), "optim": dsd.get_optimizer_state_dict(model, optimizer)}


def save(folder: Path) -> None:
    """Save in the middle of runs, and what becomes of them."""
    size = dist.get_world_size()
    for name, how in SAVED:
        model, optimizer = build(how, maker(name))
        train(model, optimizer, range(4), split=True)
        dcp.save(_states(model, optimizer), checkpoint_id=folder / f"{name}-{how}-{size}")
        if how == "sharded":
            both = {"model": model.state_dict(), "optim": optimizer.state_dict()}
            dcp.save(both, checkpoint_id=folder / f"{name}-plain-{size}")
        train(model, optimizer, range(4, 7), split=True)
        final = [whole(param) for param in model.parameters()]
        if dist.get_rank() == 0:
            torch.save(final, folder / f"{name}-{how}-{size}.pt")


def _load(folder: Path, size: int) -> None:
    here = dist.get_world_size()
    for name, how in SAVED:
        model, optimizer = build(how if here > 1 else "alone", maker(name))
        states = _states(model, optimizer)
        dcp.load(states, checkpoint_id=folder / f"{name}-{how}-{size}")
        dsd.set_model_state_dict(model, states["model"])
        dsd.set_optimizer_state_dict(model, optimizer, states["optim"])
        _goes_on(folder / f"{name}-{how}-{size}.pt", model, optimizer, 0.0 if here == size else 1e-9)


def _goes_on(expected: Path, model: nn.Module, optimizer: torch.optim.Optimizer, tolerance: float) -> None:
    train(model, optimizer, range(4, 7), split=True)
    pairs = zip(torch.load(expected), model.parameters(), strict=True)
    far = max(float((theirs - whole(ours)).abs().max()) for theirs, ours in pairs)
    assert far <= tolerance, f"{expected.stem} into {dist.get_world_size()}: {far}"


def load_one(folder: Path) -> None:
    """Go on where one process saved."""
    _load(folder, 1)


def load_two(folder: Path) -> None:
    """Go on where two processes saved."""
    _load(folder, 2)


def load_four(folder: Path) -> None:
    """Go on where four processes saved."""
    _load(folder, 4)


def load_plain(folder: Path) -> None:
    """Go on from state_dict() as it is, in a new optimizer."""
    for name in ("soap", "mars-m"):
        model, optimizer = build("sharded", maker(name))
        states = {"model": model.state_dict(), "optim": optimizer.state_dict()}
        dcp.load(states, checkpoint_id=folder / f"{name}-plain-2")
        model.load_state_dict(states["model"])
        optimizer.load_state_dict(states["optim"])
        _goes_on(folder / f"{name}-sharded-2.pt", model, optimizer, 1e-9)


def parts_say_where_they_belong(folder: Path) -> None:
    """The state of vectors under MARS-M is a DTensor that is placed as the parameter is."""
    model, optimizer = build("sharded", maker("mars-m"))
    train(model, optimizer, range(1), split=True)
    for param in model.parameters():
        if param.ndim == 1:
            moment = optimizer.state[param]["preconditioner.second_moment"]
            assert isinstance(moment, DTensor)
            assert moment.placements == param.placements
            assert moment.shape == param.shape
            assert torch.equal(moment.full_tensor() > 0, param.grad.full_tensor() != 0)


def look_back(folder: Path) -> None:
    """The exact form of MARS-M, whose closure is called twice a step, also trains as one process does."""
    make = functools.partial(Optimizer, method=variance_reduced.mars_m(exact=True), lr=3e-3, weight_decay=0.1)
    for how in SEVERAL:
        assert gap(how, make, 4) < 1e-9, how


def another_batch(folder: Path) -> None:
    """So does LANTON where the noise comes from a second batch, here one with other gradients in each layer."""

    def second() -> Callable[[nn.Module, int], None]:
        calls = itertools.count()

        def tamper(model: nn.Module, step: int) -> None:
            if next(calls) % 2:
                for place, param in enumerate(model.parameters()):
                    param.grad.mul_(1.0 + 10.0 * place)

        return tamper

    method = noise_adaptive.lanton(independent=True, alpha=0.1)
    make = functools.partial(Optimizer, method=method, lr=0.02)
    for how in SEVERAL:
        assert gap(how, make, 4, tamper=second(), expected=second()) < 1e-9, how
        assert gap(how, make, 4, tamper=second()) > 1e-4, "the second batch changes nothing"


def page_runs(folder: Path) -> None:
    """The examples of the page on sharding run as they stand."""
    page = (Path(__file__).parents[2] / "docs" / "sharding.md").read_text()
    shards, copies, checkpoint = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    begin = 'dist.init_process_group("gloo")\n'
    for number, example in enumerate((shards, copies)):
        assert begin in example
        saved = checkpoint.replace('checkpoint_id="checkpoint"', f"checkpoint_id={str(folder / f'page-{number}')!r}")
        exec(compile(example.replace(begin, "") + saved, "<docs/sharding.md>", "exec"), {})
