"""The smoothly clipped absolute deviation."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import Concave, Penalty, Scalars
from precond.penalties.l1 import L1
from precond.penalties.separable import Sparsifier, Weights, check_above, check_weights, expand


@final
@dataclasses.dataclass(frozen=True, eq=False)
class SCAD(Sparsifier):
    """``lam |t|`` up to ``lam``, constant ``lam^2 (a+1)/2`` from ``a lam`` on, a parabola between.

    Fan and Li, Variable selection via nonconcave penalized likelihood and its oracle properties (2001).

    Attributes:
        lam: The weight, or one for each variable.
        a: Where the penalty ends to grow, in units of ``lam``; above 2.
    """

    lam: Weights = 1.0
    a: float = 3.7

    def __post_init__(self) -> None:
        """Check weights and shape."""
        check_weights(self.lam, "SCAD")
        check_above(self.a, 2, "SCAD: a")

    @property
    def concavity(self) -> float:
        """Return ``1/(a-1)``."""
        return 1 / (self.a - 1)

    def value(self, x: Tensor) -> Tensor:
        """Return the sum over the variables."""
        return self._values(x.abs(), self.weight(x)).sum()

    def _values(self, size: Tensor, lam: Tensor) -> Tensor:
        middle = (2 * self.a * lam * size - size.square() - lam.square()) / (2 * (self.a - 1))
        flat = lam.square() * (self.a + 1) / 2
        return torch.where(size <= lam, lam * size, torch.where(size < self.a * lam, middle, flat))

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Return the best of the minimizers on the three pieces, which is global for any step."""
        size, lam, a = x.abs(), self.weight(x), self.a
        near = torch.minimum((size - step * lam).clamp(min=0), lam)
        far = torch.maximum(size, a * lam)
        narrow = a - 1 - torch.as_tensor(step, dtype=x.dtype, device=x.device)
        middle = ((a - 1) * size - a * lam * step) / torch.where(narrow > 0, narrow, 1.0)
        middle = torch.where(narrow > 0, torch.minimum(torch.maximum(middle, lam), a * lam), lam)
        options = torch.stack([near, middle.expand_as(near), far])
        costs = step * self._values(options, lam) + (options - size).square() / 2
        return x.sign() * options.gather(0, costs.argmin(0, keepdim=True))[0]

    def slope(self, size: Tensor) -> Tensor:
        """Return ``lam``, falling to zero between ``lam`` and ``a lam``."""
        lam = self.weight(size)
        return torch.minimum((self.a * lam - size).clamp(min=0) / (self.a - 1), lam)

    def scalars(self, n: int) -> Scalars:
        """Return kind 2."""
        free = Scalars.free(n)
        return dataclasses.replace(
            free, kind=torch.full_like(free.kind, 2), weight=expand(self.weight(free.weight), n),
            shape=torch.full_like(free.shape, self.a),
        )  # fmt: skip

    def split(self) -> tuple[Penalty, Concave]:
        """Return ``lam |t|`` and the rest."""
        return L1(self.lam), Rest(self)


@dataclasses.dataclass(frozen=True)
class Rest(Concave):
    """A penalty less ``lam |t|``: smooth and concave.

    Attributes:
        penalty: The penalty, whose slope at zero is ``lam``.
    """

    penalty: Sparsifier

    def value(self, x: Tensor) -> Tensor:
        """Return the difference."""
        return self.penalty.value(x) - (self.penalty.weight(x) * x.abs()).sum()

    def gradient(self, x: Tensor) -> Tensor:
        """Return the difference of the slopes with the sign of ``x``."""
        size = x.abs()
        return x.sign() * (self.penalty.slope(size) - self.penalty.weight(x))
