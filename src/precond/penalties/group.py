"""Norms of groups of variables, which vanish together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from precond.core import BadInputError, Penalty
from precond.penalties.separable import Weights, check_weights, length


@final
@dataclasses.dataclass(frozen=True, eq=False)
class GroupL1(Penalty):
    """``sum_g lam_g ||x_g||`` (Yuan and Lin, Model selection with grouped variables, 2006).

    Attributes:
        lam: The weight, or one for each group.
        groups: The number of the group of each variable, integers from 0 on; or one number, the size of groups of
            neighbours.
    """

    separable: ClassVar[bool] = False
    lam: Weights = 1.0
    groups: int | Sequence[int] | np.ndarray[Any, Any] | Tensor = 1

    def __post_init__(self) -> None:
        """Check weights and groups."""
        check_weights(self.lam, "GroupL1")
        if isinstance(self.groups, (int, np.integer)):
            if self.groups < 1:
                raise BadInputError(f"GroupL1: groups must have at least one member, not {self.groups}")
            return
        places = torch.as_tensor(self.groups)
        if places.ndim != 1 or places.is_floating_point() or bool((places < 0).any()):
            raise BadInputError("GroupL1: groups must be a size, or the number (0, 1, ...) of each variable's group")

    def check(self, n: int) -> None:
        """Check the number of memberships and weights."""
        units = self.units(n)
        if len(units) != n:
            raise BadInputError(f"GroupL1 has {len(units)} memberships and there are {n} variables: give {n}")
        count = int(units.max()) + 1 if n else 0
        given = length(self.lam)
        if given is not None and given < count:
            raise BadInputError(f"GroupL1 has {given} weights and {count} groups: give {count}, or one")

    def units(self, n: int) -> Tensor:
        """Return the group of each variable."""
        if isinstance(self.groups, (int, np.integer)):
            return torch.arange(n) // int(self.groups)
        return torch.as_tensor(self.groups).long()

    def _norms(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return groups, norms of the groups, and weights."""
        units = self.units(x.numel()).to(x.device)
        count = int(units.max()) + 1 if len(units) else 0
        norms = x.new_zeros(count).index_add(0, units, x.square()).sqrt()
        lam = torch.as_tensor(self.lam, dtype=x.dtype, device=x.device)
        return units, norms, lam[:count] if lam.ndim else lam.expand(count)

    def value(self, x: Tensor) -> Tensor:
        """Return the weighted sum of the norms."""
        _, norms, lam = self._norms(x)
        return (lam * norms).sum()

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Shrink the norm of each group by ``step lam``; all steps must be equal."""
        units, norms, lam = self._norms(x)
        factor = torch.where(norms > 0, (1 - step * lam / torch.where(norms > 0, norms, 1.0)).clamp(min=0), 0.0)
        return x * factor[units]

    def slack(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return gradient plus ``lam x / ||x||`` of groups that are not zero, what exceeds ``lam`` of the others."""
        units, norms, lam = self._norms(x)
        _, lengths, _ = self._norms(gradient)
        inside = gradient + (lam / torch.where(norms > 0, norms, 1.0))[units] * x
        excess = torch.where(lengths > 0, (1 - lam / torch.where(lengths > 0, lengths, 1.0)).clamp(min=0), 0.0)
        return torch.where((norms > 0)[units], inside, gradient * excess[units])

    def support(self, x: Tensor) -> Tensor:
        """Return the members of groups that are not zero, or not penalized."""
        units, norms, lam = self._norms(x)
        return ((norms > 0) | (lam == 0))[units]

    def at(self, index: Tensor) -> Penalty:
        """Return the penalty of some whole groups."""
        units = self.units(int(index.max()) + 1)[index.cpu()] if len(index) else index
        kept, places = units.unique(return_inverse=True)
        if np.ndim(self.lam) == 0:
            return GroupL1(self.lam, places)
        return GroupL1(torch.as_tensor(self.lam, dtype=torch.float64)[kept], places)
