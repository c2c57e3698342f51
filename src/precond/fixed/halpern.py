"""Halpern's iteration, which is anchored at its start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import final

from torch import Tensor

from precond.core import FixedPointIteration, Footing


@final
@dataclasses.dataclass(frozen=True)
class Halpern(FixedPointIteration):
    """``x_{k+1} = x_0 / (k+2) + (k+1)/(k+2) T(x_k)``."""

    def iterate(self, operator: Callable[[Tensor], Tensor], x0: Tensor) -> Iterator[Footing]:
        """Yield every point; the drift is the normalized iterate ``2 (x_0 - x_k) / k``."""
        x, k = x0, 0
        while True:
            image = operator(x)
            yield Footing(x, image, 2 * (x0 - x) / k if k else None)
            x = x0 / (k + 2) + (k + 1) / (k + 2) * image
            k += 1
