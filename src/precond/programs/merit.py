"""The exact augmented Lagrangian: one smooth function whose minimizers in ``(x, lambda)`` are the solutions."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from precond.core import Operator, Site


@dataclasses.dataclass(frozen=True)
class ExactLagrangian:
    """``f + lambda' c + eta1/2 ||c||^2 + eta2/2 ||grad_x L||^2``.

    Source: D. Di Pillo, L. Grippo, *A new class of augmented Lagrangians in nonlinear programming*, 1979.

    Attributes:
        eta1: Penalty on the constraints.
        eta2: Penalty on the gradient of the Lagrangian.
    """

    eta1: float
    eta2: float

    def value(self, site: Site, multipliers: Tensor) -> float:
        """Return the merit at a point, in double precision."""
        c, gradient = site.constraints, site.stationarity(multipliers)
        terms = site.loss + multipliers @ c + self.eta1 / 2 * (c @ c) + self.eta2 / 2 * (gradient @ gradient)
        return float(terms)


@dataclasses.dataclass(frozen=True)
class Slopes:
    """What the slope of the merit along any step is made of, whatever the penalties.

    Attributes:
        stationarity: ``g = grad_x L``, ``[n]``.
        constraints: ``c``, ``[m]``.
        curved: ``H g`` with the Hessian of the Lagrangian, ``[n]``.
        pulled: ``J' c``, ``[n]``.
        pushed: ``J g``, ``[m]``.
    """

    stationarity: Tensor
    constraints: Tensor
    curved: Tensor
    pulled: Tensor
    pushed: Tensor

    @classmethod
    def at(cls, site: Site, multipliers: Tensor, hessian: Operator) -> Slopes:
        """Evaluate the products at a point; one with the Hessian, two with the Jacobian."""
        g, c = site.stationarity(multipliers), site.constraints
        return cls(
            g, c, hessian.matvec(g[None])[0], site.jacobian.rmatvec(c[None])[0], site.jacobian.matvec(g[None])[0]
        )

    def gradient(self, merit: ExactLagrangian) -> Tensor:
        """Return the gradient of the merit in ``(x, lambda)``, ``[n + m]``.

        ``g + eta2 H g + eta1 J' c`` in ``x``, and ``c + eta2 J g`` in ``lambda``.
        """
        in_x = self.stationarity + merit.eta2 * self.curved + merit.eta1 * self.pulled
        return torch.cat([in_x, self.constraints + merit.eta2 * self.pushed])
