"""Other libraries' methods, raced side by side under the same rules: same trials, a stated space, the same clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from precond.core import Choice, Kind, LogUniform, Range

OptimizerMaker = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclasses.dataclass(frozen=True)
class Rival:
    """One method of another library.

    Attributes:
        name: As on the command line.
        title: What it is, in a few words.
        runs_on: Kinds of problem.
        build: From settings to what the runner of that kind calls.
        space: What a tuner may vary.
        defaults: The default of every dimension.
        symmetric: Requires a symmetric matrix.
        definite: Requires a positive definite matrix.
    """

    name: str
    title: str
    runs_on: frozenset[Kind]
    build: Callable[[Mapping[str, Any]], Any]
    space: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    symmetric: bool = False
    definite: bool = False


def _torch(
    cls: str, title: str, low: float, high: float, lr: float, *, decay: bool = False, **fixed: Any
) -> Rival:
    space: dict[str, Range] = {"lr": LogUniform(low, high)}
    defaults: dict[str, Any] = {"lr": lr}
    if decay:
        space["weight_decay"] = Choice((0.0, 1e-3, 1e-2, 1e-1))
        defaults["weight_decay"] = 1e-2

    def build(settings: Mapping[str, Any]) -> OptimizerMaker:
        return lambda parameters: getattr(torch.optim, cls)(list(parameters), **fixed, **settings)

    return Rival(f"torch.optim.{cls}", title, frozenset({Kind.TRAINING}), build, space, defaults)


_TRAINING = (
    _torch("SGD", "PyTorch's SGD with momentum 0.9 and Nesterov", 1e-3, 1.0, 1e-2, momentum=0.9, nesterov=True),
    _torch("Adam", "PyTorch's Adam", 1e-4, 1e-1, 1e-3),
    _torch("AdamW", "PyTorch's AdamW", 1e-4, 1e-1, 1e-3, decay=True),
    _torch("NAdam", "PyTorch's NAdam", 1e-4, 1e-1, 2e-3),
    _torch("RAdam", "PyTorch's RAdam", 1e-4, 1e-1, 1e-3),
    _torch("RMSprop", "PyTorch's RMSprop", 1e-4, 1e-1, 1e-3),
    _torch("Adagrad", "PyTorch's Adagrad", 1e-3, 1.0, 1e-2),
    _torch("Adafactor", "PyTorch's Adafactor", 1e-3, 1.0, 1e-2),
)

RIVALS: dict[str, Rival] = {rival.name: rival for rival in _TRAINING}
"""Every rival by name."""
