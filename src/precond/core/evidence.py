"""What was evaluated at a point, as one typed record."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
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
        probe: A random vector ``v`` with independent entries of variance one, and ``H v`` for the Hessian ``H`` here;
            ``None`` also where this step has none.
        secant: Differences ``(s, y)`` of points and gradients since the last accepted point.
        counted: Which members' costly statistics (Gram matrices) are to absorb this evidence, as positions in the
            batch; ``None`` for all. Cheap statistics absorb everything.
        operator: The matrix of the system, or the Hessian at this point.
        lookback: The gradient of this step's batch at the weights of the step before (at the first step: this step's).
        another: The gradient of another batch here.
    """

    gradient: Tensor | None = None
    previous: Tensor | None = None
    loss: Tensor | None = None
    probe: tuple[Tensor, Tensor] | None = None
    secant: tuple[Tensor, Tensor] | None = None
    counted: Sequence[int] | None = None
    operator: Operator | None = None
    lookback: Tensor | None = None
    another: Tensor | None = None

    def reshaped(self, reshape: Callable[[Tensor], Tensor]) -> Evidence:
        """Return the record with every vector in another layout, for parts that show an inner part other shapes.

        The operator stays as it is.
        """
        gradient, previous, lookback, another = (
            None if v is None else reshape(v) for v in (self.gradient, self.previous, self.lookback, self.another)
        )
        probe, secant = (
            None if pair is None else (reshape(pair[0]), reshape(pair[1])) for pair in (self.probe, self.secant)
        )
        counted = self.counted
        if counted is not None and gradient is not None and self.gradient is not None:
            pieces = len(gradient) // max(1, len(self.gradient))  # those of one member follow one another
            counted = [member * pieces + piece for member in counted for piece in range(pieces)]
        return dataclasses.replace(
            self, gradient=gradient, previous=previous, probe=probe, secant=secant, counted=counted, lookback=lookback,
            another=another,
        )  # fmt: skip


def need(value: Tensor | None, what: str) -> Tensor:
    """Return ``value``, or say which evidence a driver forgot to provide."""
    if value is None:
        raise TypeError(f"evidence lacks {what}: the part must declare it in `needs`")
    return value
