"""Objective and constraints scaled by their gradients at the start."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from precond.core import Site
from precond.programs.jacobians import largest_entries

LARGEST, SMALL, LEAST = 100.0, 1e-2, 1e-8


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Factors that bring no gradient above 100 in its largest entry at the start, and no constraint below 1/100.

    The first is from A. Waechter, L. T. Biegler, 2006, section 3.8. The second, for constraints whose values and
    gradients are all smaller, keeps the violation from being that of the others alone.

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
        largest = torch.nan_to_num(largest_entries(site.jacobian), nan=1.0)
        size = torch.nan_to_num(torch.maximum(largest, site.constraints.abs()), nan=1.0)
        up = torch.where(largest > 0, SMALL / size.clamp(min=LEAST, max=SMALL), 1.0)
        factor = (LARGEST / largest.clamp(min=LARGEST)).clamp(min=LEAST)
        return cls(max(LEAST, LARGEST / max(LARGEST, steepest)), up * factor)

    def unscale(self, multipliers: Tensor) -> Tensor:
        """Return the multipliers of the problem as it was given."""
        return multipliers * self.rows / self.loss
