"""When a driver calls ``refresh``, and shows gradients to costly statistics."""

from __future__ import annotations

import dataclasses

from precond.core.errors import BadInputError


@dataclasses.dataclass(frozen=True)
class Cadence:
    """When the expensive part of a preconditioner is recomputed.

    Attributes:
        every: Steps between refreshes.
        after: Refresh after the step (SOAP) rather than before the preconditioner is applied (Shampoo). Coordinates
            that turn (`Traits.turns`) do so after the step in any case.
        prime: The first evidence only primes the preconditioner; no step is taken with it.
        stagger: Spread the refreshes of different slabs over the interval, so that no step pays for all.
            The first refresh of each slab is never delayed.
        statistics: Steps between gradients that costly statistics absorb (`Evidence.counted`); the first always counts.
        start: The step of the first refresh, where it comes before the step; nothing is refreshed earlier.
        free: Where steps solve systems by products with the Hessian: products that a step may take for nothing where
            a refresh takes none (it is one pass over data). A refresh waits until the products beyond them are as
            many as those that the last refresh took. ``None`` never waits.
        block: Longer axes are refreshed in blocks no longer than this, which is what ``stagger`` counts; ``None`` for
            whole axes.
        early: Steps between refreshes within the first ``every`` steps, where what few gradients have shown is soon out
            of date; twice as many whenever as many steps again have gone by, until they are ``every``. ``None`` for
            ``every`` from the first on.
    """

    every: int = 1
    after: bool = False
    prime: bool = False
    stagger: bool = True
    statistics: int = 1
    start: int = 1
    free: int | None = None
    block: int | None = None
    early: int | None = None

    def __post_init__(self) -> None:
        """Check the interval."""
        if self.every < 1:
            raise BadInputError(f"a refresh interval must be at least 1 step, not {self.every}")
        if self.early is not None and self.early < 1:
            raise BadInputError(f"an early refresh interval must be at least 1 step, not {self.early}")
        if self.statistics < 1:
            raise BadInputError(f"statistics must be taken every 1 or more steps, not {self.statistics}")
        if self.start < 1 or (self.after and self.start != 1):
            raise BadInputError(f"the first refresh must come at step 1 or later, before the step, not {self.start}")

    def due(self, step: int, offset: int = 0) -> bool:
        """Whether a slab with this ``offset`` refreshes at ``step`` (counted from 1)."""
        if step <= self.start and not self.after:
            return step == self.start
        return (step + (offset if self.stagger else 0)) % self._interval(step) == 0

    def _interval(self, step: int) -> int:
        """Return the steps between refreshes at a step."""
        if self.early is None:
            return self.every
        doublings = (max(0, step - 1) // self.every).bit_length()
        return min(self.early << doublings, self.every)

    def worth(self, excess: int, taken: int) -> bool:
        """Whether a refresh that is due pays.

        Args:
            excess: Products beyond the free ones since the last refresh.
            taken: Products that the last refresh took.

        Returns:
            Whether to refresh.
        """
        return self.free is None or excess >= max(1, taken)

    def counts(self, step: int, offset: int = 0) -> bool:
        """Whether costly statistics absorb the gradient of ``step``, counted from 1: always that before a refresh."""
        return (step + 1 + (offset if self.stagger else 0)) % self.statistics == 0
