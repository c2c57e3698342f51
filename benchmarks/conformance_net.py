"""A regression of a few units, on which cases of conformance train."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from conformance_case import Broken, take_step


class Net(nn.Module):
    """A regression in which a weight is used twice and another is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.frozen, self.last = nn.Linear(4, 6).requires_grad_(False), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return three numbers for each row of four."""
        x = torch.tanh(self.second(torch.tanh(self.first(x))))
        return self.last(torch.tanh(self.frozen(x)))


def batch(step: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    return x, 3 + x[:, :3]


def loss_of(net: nn.Module, step: int) -> Tensor:
    x, y = batch(step)
    return (net(x).float() - y).square().mean()


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(net, step)
            loss.backward()
            return loss

        take_step(optimizer, closure)


def net_falls(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    with torch.no_grad():
        before = float(loss_of(net, 999))
    train(net, optimizer, steps)
    with torch.no_grad():
        after = float(loss_of(net, 999))
    if not math.isfinite(after):
        raise Broken("parameters became NaN or inf")
    if not after < before:
        raise Broken("no progress")
