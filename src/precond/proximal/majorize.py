"""A step of the proximal gradient method whose length a test of the smooth part decides."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from precond.core import Composite, Penalty
from precond.math.draws import normals

LARGEST = 1e30
"""A Lipschitz constant beyond this is none: the function is not smooth here, or not finite."""

NEAR = 1e-6
"""Relative change of a loss below which its value is not trusted alone."""


@dataclasses.dataclass
class Majorizer:
    """A bound ``lipschitz`` on the curvature that grows where it is seen to be too small.

    Attributes:
        lipschitz: The bound.
        known: It is one, so that nothing needs to be tested.
    """

    lipschitz: float
    known: bool = False

    def step(self, problem: Composite, penalty: Penalty, y: Tensor, loss: Tensor, gradient: Tensor) -> Tensor | None:
        """Return ``prox(y - gradient / L)``, with ``L`` doubled until ``f`` is below its quadratic model there.

        Args:
            problem: The problem; its losses are counted.
            penalty: Whose proximal map is taken.
            y: Where the step starts, ``[n]``.
            loss: ``f(y)``.
            gradient: Its gradient, ``[n]``.

        Returns:
            The next point, or ``None`` if no bound is large enough.
        """
        noise = 10 * torch.finfo(y.dtype).eps
        while self.lipschitz < LARGEST:
            x = penalty.prox(y - gradient / self.lipschitz, 1 / self.lipschitz)
            if self.known:
                return x
            d = x - y
            rise = problem.loss(x) - loss
            model = gradient.dot(d) + self.lipschitz / 2 * d.dot(d)
            if bool(rise <= model + noise * loss.abs()):
                return x
            if bool(rise.abs() <= NEAR * loss.abs()):  # values may differ by rounding alone: ask the gradients
                change = problem.smooth.point(x[None]).gradient[0] - gradient
                if bool(change.dot(d) <= self.lipschitz * d.dot(d)):
                    return x
            self.lipschitz *= 2
        return None


def estimate(problem: Composite, x: Tensor, gradient: Tensor) -> Majorizer:
    """Return the bound that the smooth part knows, or what one difference of gradients says.

    Args:
        problem: The problem; one gradient is counted.
        x: A point, ``[n]``.
        gradient: The gradient there, ``[n]``.

    Returns:
        The majorizer.
    """
    known = problem.smooth.lipschitz()
    if known is not None and math.isfinite(known) and known > 0:
        return Majorizer(known, known=True)
    length = float(gradient.norm())
    direction = -gradient / length if length > 0 else normals(torch.tensor([0]), x[None])[0]
    h = math.sqrt(torch.finfo(x.dtype).eps) * (1 + float(x.norm())) / max(float(direction.norm()), 1e-30)
    change = problem.smooth.point((x + h * direction)[None]).gradient[0] - gradient
    slope = float(change.norm()) / (h * max(float(direction.norm()), 1e-30))
    return Majorizer(slope if math.isfinite(slope) and slope > 0 else 1.0)
