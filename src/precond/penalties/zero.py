"""No penalty."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import Penalty, Scalars
from precond.penalties.separable import Separable


@final
@dataclasses.dataclass(frozen=True)
class Zero(Separable):
    """Zero everywhere."""

    def check(self, n: int) -> None:
        """Take any number of variables."""

    def value(self, x: Tensor) -> Tensor:
        """Return zero."""
        return x.new_zeros(())

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Return a copy."""
        return x.clone()

    def subgradients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return zeros."""
        return torch.zeros_like(x), torch.zeros_like(x)

    def at(self, index: Tensor) -> Penalty:
        """Return itself."""
        return self

    def scalars(self, n: int) -> Scalars:
        """Return kind 0."""
        return Scalars.free(n)
