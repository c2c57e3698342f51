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
        absorbed: How many gradients each member had absorbed before, where the driver knows: so parts need not read
            counters back from a device.
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
    absorbed: Sequence[int] | None = None
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
        counted, absorbed = self.counted, self.absorbed
        if gradient is not None and self.gradient is not None:
            pieces = len(gradient) // max(1, len(self.gradient))  # those of one member follow one another
            if counted is not None:
                counted = [member * pieces + piece for member in counted for piece in range(pieces)]
            if absorbed is not None:
                absorbed = [number for number in absorbed for _ in range(pieces)]
        return dataclasses.replace(
            self, gradient=gradient, previous=previous, probe=probe, secant=secant, counted=counted, absorbed=absorbed,
            lookback=lookback, another=another,
        )  # fmt: skip


def absorbed_before(evidence: Evidence, steps: Tensor) -> list[int]:
    """Return how many gradients each member had absorbed before this evidence: counters ``[batch]``, unless known."""
    return steps.tolist() if evidence.absorbed is None else list(evidence.absorbed)


def need(value: Tensor | None, what: str) -> Tensor:
    """Return ``value``, or say which evidence a driver forgot to provide."""
    if value is None:
        raise TypeError(f"evidence lacks {what}: the part must declare it in `needs`")
    return value
