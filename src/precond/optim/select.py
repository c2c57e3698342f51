"""Selectors that say which parameters a rule of a `Route` takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import Tensor

from precond.core import Selector


@dataclasses.dataclass(frozen=True)
class Matrices(Selector):
    """Parameters with enough axes, unless their name matches a pattern.

    Names are known when the optimizer was given ``model.named_parameters()``; without names nothing is excluded.

    Attributes:
        min_ndim: Fewest axes.
        exclude: Shell patterns of names to leave out, without regard to case.
    """

    min_ndim: int = 2
    exclude: Sequence[str] = ()

    def selects(self, name: str, parameter: Tensor) -> bool:
        """Whether the rule takes this parameter."""
        excluded = any(fnmatchcase(name.lower(), pattern.lower()) for pattern in self.exclude)
        return parameter.ndim >= self.min_ndim and not excluded
