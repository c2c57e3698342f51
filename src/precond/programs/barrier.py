"""The logarithmic barrier of bounds, with its own multipliers."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor

DAMPING = 1e-5
KEEP = 1e10
"""Multipliers stay within this factor of ``mu / distance``."""


@dataclasses.dataclass
class Barrier:
    """``-mu sum log(x - lower) - mu sum log(upper - x)``, and multipliers of the bounds.

    Where a variable has one bound alone ``DAMPING mu`` times the distance to it is added, so that the variable does not
    run away where nothing else holds it (A. Waechter, L. T. Biegler, 2006, section 3.7).

    Attributes:
        lower: Lower bounds, ``[n]``, ``-inf`` where there are none.
        upper: Upper bounds, ``[n]``.
        mu: Its weight; zero where there are no bounds.
        below: Multipliers of the lower bounds, ``[n]``, zero where there are none.
        above: Multipliers of the upper bounds, ``[n]``.
    """

    lower: Tensor
    upper: Tensor
    mu: float
    below: Tensor
    above: Tensor

    @classmethod
    def around(cls, lower: Tensor, upper: Tensor, mu: float) -> Barrier:
        """Return the barrier of bounds with multipliers of 1."""
        below, above = torch.isfinite(lower).to(lower), torch.isfinite(upper).to(lower)
        return cls(lower, upper, mu if bool(below.any() or above.any()) else 0.0, below, above)

    def inside(self, x: Tensor, share: float = 1e-2) -> Tensor:
        """Return ``x`` moved away from the bounds, as much as they leave room for."""
        width = self.upper - self.lower
        near_lower = torch.minimum(share * self.lower.abs().clamp(min=1), share * width)
        near_upper = torch.minimum(share * self.upper.abs().clamp(min=1), share * width)
        x = torch.where(self._floors, torch.maximum(x, self.lower + near_lower), x)
        return torch.where(self._ceilings, torch.minimum(x, self.upper - near_upper), x)

    def value(self, x: Tensor) -> Tensor:
        """Return the barrier at ``x``, 0-d; not finite outside of the bounds."""
        if not self.mu:
            return x.new_zeros(())
        logs = torch.where(self._floors, (x - self.lower).log(), 0).sum()
        logs = logs + torch.where(self._ceilings, (self.upper - x).log(), 0).sum()
        away = torch.where(self._floors, x - self.lower, self.upper - x)
        return self.mu * (DAMPING * (self._one_sided.abs() * torch.nan_to_num(away, posinf=0.0)).sum() - logs)

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of the barrier, ``[n]``."""
        return self.mu / (self.upper - x) - self.mu / (x - self.lower) + DAMPING * self.mu * self._one_sided

    def curvature(self, x: Tensor) -> Tensor:
        """Return the primal-dual diagonal ``below / (x - lower) + above / (upper - x)``, ``[n]``."""
        return self.below / (x - self.lower) + self.above / (self.upper - x)

    def steps(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Newton steps of the multipliers that go with the step ``d``."""
        low, high = x - self.lower, self.upper - x
        below = torch.where(self._floors, (self.mu - self.below * d) / low - self.below, 0)
        above = torch.where(self._ceilings, (self.mu + self.above * d) / high - self.above, 0)
        return below, above

    def move(self, x: Tensor, steps: tuple[Tensor, Tensor], share: float) -> None:
        """Move the multipliers as far as they stay positive, and keep them near ``mu / distance`` at the new ``x``."""
        alpha = min(_positive(self.below, steps[0], share), _positive(self.above, steps[1], share))
        self.below, self.above = self.below + alpha * steps[0], self.above + alpha * steps[1]
        if self.mu:
            low, high = self.mu / (x - self.lower), self.mu / (self.upper - x)
            self.below = torch.where(self._floors, self.below.clamp(low / KEEP, low * KEEP), 0)
            self.above = torch.where(self._ceilings, self.above.clamp(high / KEEP, high * KEEP), 0)

    def reset(self, x: Tensor) -> None:
        """Set the multipliers to ``mu / distance``, at most 1000."""
        if self.mu:
            self.below = torch.where(self._floors, (self.mu / (x - self.lower)).clamp(max=1e3), 0)
            self.above = torch.where(self._ceilings, (self.mu / (self.upper - x)).clamp(max=1e3), 0)

    def gap(self, x: Tensor, mu: float) -> float:
        """Return the largest ``|multiplier * distance - mu|``."""
        low = torch.where(self._floors, (x - self.lower) * self.below - mu, 0)
        high = torch.where(self._ceilings, (self.upper - x) * self.above - mu, 0)
        return max((float(v.abs().max()) for v in (low, high) if v.numel()), default=0.0)

    @functools.cached_property
    def _floors(self) -> Tensor:
        """Where there is a lower bound, ``[n]``."""
        return torch.isfinite(self.lower)

    @functools.cached_property
    def _ceilings(self) -> Tensor:
        """Where there is an upper bound, ``[n]``."""
        return torch.isfinite(self.upper)

    @functools.cached_property
    def _one_sided(self) -> Tensor:
        """1 where there is a lower bound alone, -1 where there is an upper one alone, and 0 elsewhere, ``[n]``."""
        return self._floors.to(self.lower) - self._ceilings.to(self.lower)


def _positive(z: Tensor, d: Tensor, share: float) -> float:
    ratio = torch.where(d < 0, share * z / -d, torch.inf)
    return min(1.0, float(ratio.min())) if ratio.numel() else 1.0
