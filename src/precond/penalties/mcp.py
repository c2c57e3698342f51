"""The minimax concave penalty."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import Concave, Penalty, Scalars
from precond.penalties.l1 import L1
from precond.penalties.scad import Rest
from precond.penalties.separable import Sparsifier, Weights, check_above, check_weights, expand


@final
@dataclasses.dataclass(frozen=True, eq=False)
class MCP(Sparsifier):
    """``lam |t| - t^2 / (2 gamma)`` up to ``gamma lam``, constant ``gamma lam^2 / 2`` from there on.

    Zhang, Nearly unbiased variable selection under minimax concave penalty (2010).

    Attributes:
        lam: The weight, or one for each variable.
        gamma: Where the penalty ends to grow, in units of ``lam``; above 1.
    """

    lam: Weights = 1.0
    gamma: float = 3.0

    def __post_init__(self) -> None:
        """Check weights and shape."""
        check_weights(self.lam, "MCP")
        check_above(self.gamma, 1, "MCP: gamma")

    @property
    def concavity(self) -> float:
        """Return ``1/gamma``."""
        return 1 / self.gamma

    def value(self, x: Tensor) -> Tensor:
        """Return the sum over the variables."""
        return self._values(x.abs(), self.weight(x)).sum()

    def _values(self, size: Tensor, lam: Tensor) -> Tensor:
        inside = lam * size - size.square() / (2 * self.gamma)
        return torch.where(size <= self.gamma * lam, inside, self.gamma * lam.square() / 2)

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Return the better of the minimizers on the two pieces, which is global for any step."""
        size, lam = x.abs(), self.weight(x)
        end = self.gamma * lam
        left = 1 - torch.as_tensor(step, dtype=x.dtype, device=x.device) / self.gamma
        near = torch.minimum((size - step * lam).clamp(min=0) / torch.where(left > 0, left, 1.0), end)
        near = torch.where(left > 0, near, 0.0)
        options = torch.stack([near, torch.maximum(size, end)])
        costs = step * self._values(options, lam) + (options - size).square() / 2
        return x.sign() * options.gather(0, costs.argmin(0, keepdim=True))[0]

    def slope(self, size: Tensor) -> Tensor:
        """Return ``lam - |t| / gamma``, not below zero."""
        return (self.weight(size) - size / self.gamma).clamp(min=0)

    def scalars(self, n: int) -> Scalars:
        """Return kind 3."""
        free = Scalars.free(n)
        return dataclasses.replace(
            free, kind=torch.full_like(free.kind, 3), weight=expand(self.weight(free.weight), n),
            shape=torch.full_like(free.shape, self.gamma),
        )  # fmt: skip

    def split(self) -> tuple[Penalty, Concave]:
        """Return ``lam |t|`` and the rest."""
        return L1(self.lam), Rest(self)
