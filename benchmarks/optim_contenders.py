"""The optimizers whose steps are measured, ours and other libraries', and the networks whose parameters they move."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from precond import optim
from precond.problems.gpt import GPT
from precond.recipes.routes import NOT_HIDDEN

BASELINE = "torch.optim.AdamW, fused"
EVERY = 10
"""Steps between refreshes, for every method that has them, but for those whose saving is to have fewer."""

Named = list[tuple[str, nn.Parameter]]
Build = Callable[[Named], Iterable[torch.optim.Optimizer]]


@dataclasses.dataclass(frozen=True)
class Contender:
    """One row.

    Attributes:
        name: What it is called in the table.
        build: From named parameters to the optimizers that together train them.
        settle: Steps before the first round: as many as a window takes to fill, which make each dearer than the last;
            or those in which bases turn more often than later.
        every: Steps between refreshes; all of them make a round.
    """

    name: str
    build: Build
    settle: int = 0
    every: int = EVERY


def _values(named: Named) -> list[nn.Parameter]:
    return [param for _, param in named]


def ours(
    cls: str, note: str = "", *, by_name: bool = False, settle: int = 0, every: int = EVERY, **settings: object
) -> Contender:
    def build(named: Named) -> list[torch.optim.Optimizer]:
        return [getattr(optim, cls)(named if by_name else _values(named), **settings)]

    return Contender(f"precond {cls}{note}", build, settle, every)


def theirs(package: str, cls: str, note: str = "", **settings: object) -> Contender:
    def build(named: Named) -> list[torch.optim.Optimizer]:
        module = importlib.import_module(package)
        if package == "heavyball":
            importlib.import_module("heavyball.utils").compile_mode = None
        return [getattr(module, cls)(_values(named), **settings)]

    return Contender(f"{package}.{cls}{note}", build)


def _split(named: Named) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the matrices that our Muon takes for hidden, and the rest."""
    chosen = optim.Matrices(exclude=NOT_HIDDEN)
    hidden = [p for name, p in named if chosen.selects(name, p)]
    return hidden, [p for name, p in named if not chosen.selects(name, p)]


def _torch_muon(named: Named) -> list[torch.optim.Optimizer]:
    hidden, rest = _split(named)
    return [torch.optim.Muon(hidden, lr=0.02), torch.optim.AdamW(rest, fused=True)]


def _pytorch_optimizer_muon(named: Named) -> list[torch.optim.Optimizer]:
    module = importlib.import_module("pytorch_optimizer")
    hidden, rest = _split(named)
    return [module.Muon([{"params": hidden, "use_muon": True}, {"params": rest, "use_muon": False}])]


class _ByClosure:
    """Steps of `psgd.KronWhiten`, which wants a closure: one whose gradients are those that were made beforehand."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self.inner = importlib.import_module("psgd").KronWhiten(params)
        self.params = params

    def step(self) -> None:
        self.inner.step(lambda: sum((param * param.grad).sum() for param in self.params))


def _psgd(named: Named) -> list[Any]:
    return [_ByClosure(_values(named))]


CONTENDERS = [
    theirs("torch.optim", "AdamW", ", fused", fused=True),
    theirs("torch.optim", "AdamW", ", foreach", foreach=True),
    ours("AdamW"),
    theirs("torch.optim", "SGD", ", fused", lr=0.01, momentum=0.9, fused=True),
    theirs("torch.optim", "SGD", ", foreach", lr=0.01, momentum=0.9, foreach=True),
    ours("SGD", lr=0.01, momentum=0.9),
    ours("Lion"),
    theirs("pytorch_optimizer", "Lion"),
    ours("Adan"),
    theirs("pytorch_optimizer", "Adan"),
    ours("Muon", by_name=True),
    Contender("torch.optim.Muon, AdamW for the rest", _torch_muon),
    Contender("pytorch_optimizer.Muon", _pytorch_optimizer_muon),
    theirs("heavyball", "Muon"),
    ours("SOAP", precondition_frequency=EVERY),
    ours("LeanSOAP", every=20, settle=80),
    ours(
        "LeanSOAP",
        f", blocks of 512, a turn every {EVERY} steps",
        factor_block_size=512,
        precondition_frequency=EVERY,
        early_frequency=None,
    ),
    theirs("pytorch_optimizer", "SOAP", precondition_frequency=EVERY),
    theirs("heavyball", "SOAP", precondition_frequency=EVERY, use_precond_schedule=False),
    ours("Shampoo", precondition_frequency=EVERY),
    theirs("pytorch_optimizer", "Shampoo", preconditioning_compute_steps=EVERY),
    theirs("pytorch_optimizer", "ScalableShampoo", preconditioning_compute_steps=EVERY, start_preconditioning_step=1),
    ours("PSGDKron"),
    ours("PSGDAffine"),
    theirs("heavyball", "PSGDKron"),
    Contender("psgd_torch, KronWhiten", _psgd),
    ours("PSGDLRA", by_name=True),
    theirs("heavyball", "PSGDLRA"),
    ours("MFAC", by_name=True, ngrads=32, settle=32),
    ours("SparseMFAC", by_name=True, ngrads=32, settle=32),
    ours("LowRankMFAC", ngrads=32, settle=32),
]


class _Many(nn.Module):
    """Many small matrices."""

    def __init__(self, count: int = 500, side: int = 32) -> None:
        super().__init__()
        self.hidden = nn.ParameterList(torch.randn(side, side) for _ in range(count))


def _conv() -> nn.Module:
    """Return a small convolutional network."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3),
        nn.BatchNorm2d(64), nn.Linear(256, 128), nn.Linear(128, 10),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {"gpt": lambda: GPT(256, 4, 8, 128), "conv": _conv, "many": _Many}
