"""The iteration of a map itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import final

from torch import Tensor

from precond.core import BadInputError, FixedPointIteration, Footing


@final
@dataclasses.dataclass(frozen=True)
class Picard(FixedPointIteration):
    """``x_{k+1} = (1 - theta) x_k + theta T(x_k)``.

    Attributes:
        relaxation: ``theta``; a half makes any nonexpansive map averaged.
    """

    relaxation: float = 1.0

    def __post_init__(self) -> None:
        """Check the relaxation."""
        if not 0 < self.relaxation < 2:
            raise BadInputError(f"the relaxation must lie between 0 and 2, not {self.relaxation}")

    def iterate(self, operator: Callable[[Tensor], Tensor], x0: Tensor) -> Iterator[Footing]:
        """Yield every point; the drift is the mean step, ``(x_0 - x_k) / (theta k)``."""
        x, k = x0, 0
        while True:
            image = operator(x)
            yield Footing(x, image, (x0 - x) / (self.relaxation * k) if k else None)
            x = image if self.relaxation == 1 else x + self.relaxation * (image - x)
            k += 1
