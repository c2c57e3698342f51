"""Back towards the constraints, when no step along the Newton direction is acceptable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import Program, Site
from precond.programs.jacobians import Damped

ITERATIONS = 20
FLAT = 1e-9
"""A violation is stationary where its scaled gradient is this small beside it."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """Where a restoration ended.

    Attributes:
        site: The last point.
        stationary: It is a stationary point of the violation, which has not vanished.
        accepted: The caller accepted it.
    """

    site: Site
    stationary: bool
    accepted: bool


def restore(
    program: Program, site: Site, rows: Tensor, lower: Tensor, upper: Tensor, acceptable: Callable[[Site], bool],
    slow: float = 0.0,
) -> Restored:  # fmt: skip
    """Reduce the scaled violation by Levenberg-Marquardt steps inside the bounds until the caller accepts.

    ``(J'J + nu D^-2) d = -J'c`` with ``D`` the distances to the bounds, at most 1: variables next to a bound move
    little (T. F. Coleman, Y. Li, 1996); steps keep to the interior.

    Args:
        program: The oracle.
        site: Where to start, strictly inside of the bounds.
        rows: Factors of the constraints, ``[m]``.
        lower: Lower bounds, ``[n]``.
        upper: Upper bounds, ``[n]``.
        acceptable: Decides whether a point will do.
        slow: Two steps in a row that reduce ``||c||^2`` by less than this share of it end the restoration.

    Returns:
        Where it ended.
    """
    nu, slowly = 1e-4, 0
    for _ in range(ITERATIONS):
        c = site.constraints * rows
        distance = torch.minimum(site.x - lower, upper - site.x).clamp(max=1.0)
        damped = Damped.of(site.jacobian, rows, distance)
        gradient, half = damped.pull(c), float(c @ c) / 2
        largest = damped.size or 1.0
        if float(gradient.norm()) <= FLAT * largest * float(c.norm()) or not float(c.norm()) > 0:
            return Restored(site, bool(float(c.norm()) > 0), False)
        moved = False
        while nu < 1e20:
            d = damped.step(c, nu * largest**2)
            if d is not None:
                d = d * to_boundary(site.x, distance * d, lower, upper, 0.99)
                step = distance * d
                _, trial = program.values(site.x + step)
                trial = trial * rows
                predicted = half - float((c + damped.push(d)).square().sum()) / 2
                gained = half - float(trial @ trial) / 2
                if predicted > 0 and gained >= 1e-4 * predicted:
                    nu = max(1e-14, nu / (5 if gained > 0.5 * predicted else 1))
                    site, moved = program.site(site.x + step), True
                    break
            nu *= 4
        if not moved:
            return Restored(site, True, False)
        if acceptable(site):
            return Restored(site, False, True)
        slowly = slowly + 1 if gained <= slow * half else 0
        if slowly == 2 and slow:
            break
    return Restored(site, False, False)


def to_boundary(x: Tensor, d: Tensor, lower: Tensor, upper: Tensor, share: float) -> float:
    """Return the largest step of at most 1 along ``d`` that leaves ``1 - share`` of every distance to a bound."""
    room = torch.where(d < 0, x - lower, upper - x)
    ratio = torch.where(d == 0, torch.inf, share * room / d.abs())
    return min(1.0, float(ratio.min())) if ratio.numel() else 1.0
