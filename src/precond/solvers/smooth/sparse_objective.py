"""Objectives whose Hessians are sparse: their entries are recovered from a few products."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.core import Delegating, Objective, Operator
from precond.math.draws import normals
from precond.math.sparse.graphs import width
from precond.operators.compressed import Compressor

PROBES, SHARE = 2, 64
"""Products that tell whether a search for a pattern is worth it, each with a vector on one of so many intervals."""
LEAST = 32
"""Variables below which nothing is gained: Hessians stay what they are."""
FULL = 0.5
"""Share of the entries of such a product from which on it is not."""
FEW = 4
"""How many times more products all unit vectors must take than the recovery of one Hessian."""
WIDTH = 100
"""Largest width of the graph whose factors are thought to be cheap."""
PATIENCE = 100
"""Products, or as many as there are variables, before the entries are looked for."""
SEARCHES = 12
"""Searches for entries that were zero before, after which a Hessian counts as dense."""


class SparseObjective(Delegating):
    """Another objective, whose Hessians get their entries.

    To find where the entries are takes as many products as an easy problem takes in all. So it waits until as many were
    spent, and up to then Hessians are what they are.

    Args:
        base: The objective; what it counts is counted.
    """

    sparse = True

    def __init__(self, base: Objective) -> None:
        super().__init__(base)
        self._known: tuple[Tensor, Operator] | None = None
        self._compressor: Compressor | None = None
        self._left, self._begin, self._looked = SEARCHES, base.work.hvps, False

    @classmethod
    def of(cls, base: Objective, x: Tensor) -> SparseObjective | None:
        """Return an objective whose Hessians may get entries, ``None`` where few products show them to be dense.

        Args:
            base: An objective with Hessian products.
            x: Where to look, ``[1, n]``.

        Returns:
            The objective.
        """
        if x.numel() < LEAST:
            return cls(base)
        hessian = base.hessian(x)
        return cls(base) if all(_dense(hessian, x, probe) is False for probe in range(PROBES)) else None

    def hessian(self, x: Tensor) -> Operator:
        """Return the Hessian, with its entries where they are known; without them where it is not sparse any more."""
        if self._known is None or self._known[0] is not x:
            if not self._looked and x.numel() >= LEAST and self.work.hvps - self._begin >= min(PATIENCE, x.numel()):
                self._look(x)
            self._known = x, self._recovered(self.base.hessian(x))
        return self._known[1]

    def _look(self, x: Tensor) -> None:
        """Find where the entries are, near a point, so that those which vanish at it by chance are seen."""
        self._looked = True
        draw = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(x) - 0.5
        for size in (1e-4, 0.0):  # the place nearby may be outside of the domain
            hessian = self.base.hessian(x + size * (1 + x.abs()) * draw)
            if _dense(hessian, x, PROBES) is not None:
                break
        compressor = Compressor(symmetric=True)
        if not compressor.learn(hessian) or compressor.pattern is None:
            return
        pattern = compressor.pattern
        taken = pattern.count + len(pattern.full) + 1
        if FEW * taken <= x.numel() and width(pattern.rows) <= WIDTH:
            self._compressor = compressor

    def _recovered(self, hessian: Operator) -> Operator:
        """Return a Hessian with its entries; others are looked for when a product contradicts them."""
        if self._compressor is None or not self._left:
            return hessian
        before = self._compressor.pattern
        found = self._compressor.recover(hessian)
        self._left -= self._compressor.pattern is not before
        return found


def _dense(hessian: Operator, x: Tensor, probe: int) -> bool | None:
    """Return whether a few neighbours among the variables interact with most others; ``None`` if that is not finite."""
    n = x.numel()
    count = max(1, n // SHARE)
    first = int(torch.randint(0, n - count + 1, (1,), generator=torch.Generator().manual_seed(probe)))
    v = torch.zeros_like(x)
    v[:, first : first + count] = normals(torch.tensor([probe]), v[:, :count])
    seen = hessian.matvec(v)
    return int((seen != 0).sum()) > FULL * n if bool(torch.isfinite(seen).all()) else None
