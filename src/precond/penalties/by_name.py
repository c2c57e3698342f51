"""Different penalties for different parts of the variables."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import BadInputError, Concave, Penalty, Scalars
from precond.penalties.zero import Zero


@final
@dataclasses.dataclass(frozen=True, eq=False)
class ByName(Penalty):
    """The sum of penalties of consecutive parts of a vector, such as the tensors of a dict or a module.

    ``precond.minimize(fun, x0, penalty={"weight": L1(0.1)})`` makes one; tensors without a name are not penalized.

    Attributes:
        parts: Pairs of a number of variables and their penalty.
    """

    parts: tuple[tuple[int, Penalty], ...] = ((1, Zero()),)

    @property
    def separable(self) -> bool:
        """Whether every part is."""
        return all(penalty.separable for _, penalty in self.parts)

    @property
    def concavity(self) -> float:
        """Return the largest."""
        return max((penalty.concavity for _, penalty in self.parts), default=0.0)

    @property
    def sizes(self) -> list[int]:
        """Numbers of variables of the parts."""
        return [size for size, _ in self.parts]

    def check(self, n: int) -> None:
        """Check every part."""
        if sum(self.sizes) != n:
            raise BadInputError(f"the penalties are of {sum(self.sizes)} variables, and there are {n}")
        for size, penalty in self.parts:
            penalty.check(size)

    def value(self, x: Tensor) -> Tensor:
        """Return the sum."""
        values = [penalty.value(v) for v, (_, penalty) in zip(x.split(self.sizes), self.parts, strict=True)]
        return torch.stack([x.new_zeros(()), *values]).sum()

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Return the proximal points of the parts."""
        steps = torch.as_tensor(step, dtype=x.dtype, device=x.device).expand_as(x).split(self.sizes)
        pieces = zip(x.split(self.sizes), steps, self.parts, strict=True)
        return torch.cat([
            x.new_zeros(0), *(p.prox(v, s if p.separable else s[:1]) for v, s, (_, p) in pieces)
        ])  # fmt: skip

    def slack(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return the slacks of the parts."""
        pieces = zip(x.split(self.sizes), gradient.split(self.sizes), self.parts, strict=True)
        return torch.cat([x.new_zeros(0), *(penalty.slack(v, g) for v, g, (_, penalty) in pieces)])

    def support(self, x: Tensor) -> Tensor:
        """Return the supports of the parts."""
        pieces = zip(x.split(self.sizes), self.parts, strict=True)
        return torch.cat([x.new_zeros(0).bool(), *(penalty.support(v) for v, (_, penalty) in pieces)])

    def units(self, n: int) -> Tensor:
        """Return the units of the parts, numbered one after another."""
        units, first = [torch.zeros(0, dtype=torch.int64)], 0
        for size, penalty in self.parts:
            own = penalty.units(size)
            units.append(own + first)
            first += int(own.max()) + 1 if size else 0
        return torch.cat(units)

    def at(self, index: Tensor) -> Penalty:
        """Return the parts of some variables, whose places must be ascending."""
        parts, first = [], 0
        for size, penalty in self.parts:
            own = index[(index >= first) & (index < first + size)] - first
            parts.append((len(own), penalty.at(own)))
            first += size
        return ByName(tuple(parts))

    def scalars(self, n: int) -> Scalars | None:
        """Return those of the parts, if all have them."""
        found = [penalty.scalars(size) for size, penalty in self.parts]
        kept = [scalars for scalars in found if scalars is not None]
        if len(kept) < len(found):
            return None
        return Scalars(*(torch.cat(columns) for columns in zip(*(each.columns() for each in kept), strict=True)))

    def split(self) -> tuple[Penalty, Concave]:
        """Return the splits of the parts."""
        splits = [(size, *penalty.split()) for size, penalty in self.parts]
        convex = ByName(tuple((size, penalty) for size, penalty, _ in splits))
        return convex, _Parts(tuple((size, rest) for size, _, rest in splits))


@dataclasses.dataclass(frozen=True)
class _Parts(Concave):
    """Concave functions of consecutive parts of a vector."""

    parts: tuple[tuple[int, Concave], ...]

    def value(self, x: Tensor) -> Tensor:
        pieces = zip(x.split([size for size, _ in self.parts]), self.parts, strict=True)
        return torch.stack([x.new_zeros(()), *(part.value(v) for v, (_, part) in pieces)]).sum()

    def gradient(self, x: Tensor) -> Tensor:
        pieces = zip(x.split([size for size, _ in self.parts]), self.parts, strict=True)
        return torch.cat([x.new_zeros(0), *(part.gradient(v) for v, (_, part) in pieces)])
