"""Objective and constraints scaled by their gradients at the start."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from precond.core import Site
from precond.programs.jacobians import largest_entries

LARGEST, LEAST = 100.0, 1e-8


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Factors of at most 1 that bring no gradient above 100 in its largest entry at the start.

    Source: A. Waechter, L. T. Biegler, 2006, section 3.8.

    Attributes:
        loss: Factor of the objective.
        rows: Factors of the constraints, ``[m]``.
    """

    loss: float
    rows: Tensor

    @classmethod
    def at(cls, site: Site) -> Scaling:
        """Return the factors for a starting point."""
        steepest = float(site.gradient.abs().max()) if site.gradient.numel() else 0.0
        largest = largest_entries(site.jacobian)
        factor = LARGEST / largest.clamp(min=LARGEST)
        return cls(max(LEAST, LARGEST / max(LARGEST, steepest)), torch.nan_to_num(factor, nan=1.0).clamp(min=LEAST))

    def unscale(self, multipliers: Tensor) -> Tensor:
        """Return the multipliers of the problem as it was given."""
        return multipliers * self.rows / self.loss
