"""What was evaluated at a point, as one typed record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from precond.core.operator import Operator


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a driver saw at an accepted point; a field is ``None`` when nobody needed it.

    Every tensor has the batch as its leading axis.

    Attributes:
        gradient: The gradient, after the estimator when a preconditioner observes it. Shape ``[batch, *shape]``.
        previous: The gradient of the step before, as it was before the estimator (at the first step: this step's).
        loss: The value of the loss, 0-d.
        secant: Differences ``(s, y)`` of points and gradients since the last accepted point.
        counted: Which members' costly statistics (Gram matrices) are to absorb this evidence, as positions in the
            batch; ``None`` for all. Cheap statistics absorb everything.
        operator: The matrix of the system, or the Hessian at this point.
    """

    gradient: Tensor | None = None
    previous: Tensor | None = None
    loss: Tensor | None = None
    secant: tuple[Tensor, Tensor] | None = None
    counted: Sequence[int] | None = None
    operator: Operator | None = None


def need(value: Tensor | None, what: str) -> Tensor:
    """Return ``value``, or say which evidence a driver forgot to provide."""
    if value is None:
        raise TypeError(f"evidence lacks {what}: the part must declare it in `needs`")
    return value
