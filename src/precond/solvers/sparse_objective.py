"""Objectives whose Hessians are sparse: their entries are recovered from a few products."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.core import Delegating, Objective, Operator
from precond.math.draws import normals
from precond.math.graphs import width
from precond.operators.compressed import Compressor

PROBES, SHARE = 2, 64
"""Products that tell whether a search for a pattern is worth it, each with a vector on one of so many intervals."""
FULL = 0.5
"""Share of the entries of such a product from which on it is not."""
FEW = 4
"""How many times more products all unit vectors must take than the recovery of one Hessian."""
WIDTH = 100
"""Largest width of the graph whose factors are thought to be cheap."""
SEARCHES = 12
"""Searches for entries that were zero before, after which a Hessian counts as dense."""


class SparseObjective(Delegating):
    """Another objective, whose Hessians get their entries.

    Args:
        base: The objective; what it counts is counted.
        compressor: What is known of the pattern of its Hessians.
    """

    sparse = True

    def __init__(self, base: Objective, compressor: Compressor) -> None:
        super().__init__(base)
        self._compressor = compressor
        self._known: tuple[Tensor, Operator] | None = None
        self._left = SEARCHES

    @classmethod
    def of(cls, base: Objective, x: Tensor) -> SparseObjective | None:
        """Return an objective with sparse Hessians, ``None`` where they are not sparse enough to gain by it.

        Hessians are looked at near ``x``, so that entries that vanish at it by chance are seen; others are found when a
        check of a Hessian by a product fails.

        Args:
            base: An objective with Hessian products.
            x: Where to look, ``[1, n]``.

        Returns:
            The objective.
        """
        n = x.numel()
        draw = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(x) - 0.5
        for size in (1e-4, 0.0):  # the place nearby may be outside of the domain
            hessian = base.hessian(x + size * (1 + x.abs()) * draw)
            dense = [_dense(hessian, x, probe) for probe in range(PROBES)]
            if None not in dense:
                break
        if any(share is not False for share in dense):
            return None
        compressor = Compressor(symmetric=True)
        if not compressor.learn(hessian) or compressor.pattern is None:
            return None
        pattern = compressor.pattern
        taken = pattern.count + len(pattern.full) + 1
        return cls(base, compressor) if FEW * taken <= n and width(pattern.rows) <= WIDTH else None

    def hessian(self, x: Tensor) -> Operator:
        """Return the Hessian with its entries; without them where its pattern is not sparse any more."""
        if self._known is None or self._known[0] is not x:
            found, before = self.base.hessian(x), self._compressor.pattern
            self._known = x, self._compressor.recover(found) if self._left else found
            self._left -= self._compressor.pattern is not before
        return self._known[1]


def _dense(hessian: Operator, x: Tensor, probe: int) -> bool | None:
    """Return whether a few neighbours among the variables interact with most others; ``None`` if that is not finite."""
    n = x.numel()
    count = max(1, n // SHARE)
    first = int(torch.randint(0, n - count + 1, (1,), generator=torch.Generator().manual_seed(probe)))
    v = torch.zeros_like(x)
    v[:, first : first + count] = normals(torch.tensor([probe]), v[:, :count])
    seen = hessian.matvec(v)
    return int((seen != 0).sum()) > FULL * n if bool(torch.isfinite(seen).all()) else None
