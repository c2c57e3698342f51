"""The accelerated gradient method for penalties that are not convex, with a sequence of dampings."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from precond.core import Composite, CompositeIteration, Standing, Status
from precond.proximal.fista import Once
from precond.proximal.majorize import LARGEST, estimate


class Damping(abc.ABC):
    """The sequences of the accelerated gradient method: weights ``alpha_k`` and steps ``lambda_k``."""

    @abc.abstractmethod
    def at(self, k: int, previous: float, omega: float) -> tuple[float, float]:
        """Return ``alpha_k`` and ``lambda_k``.

        Args:
            k: Iteration, from 1 on.
            previous: ``alpha_{k-1}``; 1 at the first.
            omega: The step of the aggregate, ``0.99 / L``.

        Returns:
            Both numbers.
        """


@final
@dataclasses.dataclass(frozen=True)
class OptimalDamping(Damping):
    """``alpha_1 = 1``, ``alpha_k = 2 / (1 + sqrt(1 + 4 / alpha_{k-1}^2))``, ``lambda_k = omega / alpha_k``."""

    def at(self, k: int, previous: float, omega: float) -> tuple[float, float]:
        """Return the numbers that make the bound of the complexity least."""
        alpha = 1.0 if k == 1 else 2 / (1 + math.sqrt(1 + 4 / previous**2))
        return alpha, omega / alpha


@final
@dataclasses.dataclass(frozen=True)
class PolynomialDamping(Damping):
    """``alpha_k = 2 / (k + 1)``, ``lambda_k = k omega / 2``: Ghadimi and Lan's choice."""

    def at(self, k: int, previous: float, omega: float) -> tuple[float, float]:
        """Return the original numbers."""
        return 2 / (k + 1), k * omega / 2


@final
@dataclasses.dataclass(frozen=True)
class AcceleratedGradient(CompositeIteration):
    """Ghadimi and Lan's accelerated gradient method on a penalty's convex part, its concave part counted as smooth.

    Attributes:
        damping: The sequences.
        restart: Start them afresh where the points that gradients are taken at have begun to slow down.
        safety: ``omega L``.
    """

    damping: Damping = OptimalDamping()
    restart: bool = False
    safety: float = 0.99

    def iterate(self, problem: Composite, x0: Tensor, tolerance: float) -> Iterator[Standing]:
        """Yield the aggregate after each step; its own measure is the length of its step over ``omega``."""
        convex, rest = problem.penalty.split()
        first = problem.spot(x0)
        yield Standing.at(first)
        bound = estimate(problem, x0, first.gradient)
        least = problem.penalty.concavity
        x = aggregate = x0
        alpha, k, speed, last, last_measure = 1.0, 0, math.inf, None, first.measure
        noise = 10 * torch.finfo(x0.dtype).eps
        while True:
            k += 1
            omega = self.safety / max(bound.lipschitz, least)
            previous = alpha
            alpha, step = self.damping.at(k, previous, omega)
            middle = (1 - alpha) * aggregate + alpha * x
            seen = first if k == 1 and last is None else problem.spot(middle)
            gradient = seen.gradient + rest.gradient(middle)
            while True:
                new = convex.prox(middle - omega * gradient, omega)
                d = new - middle
                if bound.known or bound.lipschitz > LARGEST:
                    break
                curvature = max(bound.lipschitz, least)
                if problem.loss(new) + rest.value(new) <= (
                    seen.loss + rest.value(middle) + gradient.dot(d) + curvature / 2 * d.dot(d)
                    + noise * seen.loss.abs()
                ):  # fmt: skip
                    break
                change = problem.smooth.point(new[None]).gradient[0] - seen.gradient  # values may differ by rounding
                if change.dot(d) <= curvature * d.dot(d):
                    break
                bound.lipschitz = 2 * curvature
                omega = self.safety / bound.lipschitz
                _, step = self.damping.at(k, previous, omega)
            if bound.lipschitz > LARGEST:
                yield Standing(aggregate, last_measure, Once(problem, aggregate), failure=Status.FAILED_LINE_SEARCH)
                return
            x = convex.prox(x - step * gradient, step)
            aggregate = new
            last_measure = float(d.norm()) / omega
            yield Standing(aggregate, last_measure, Once(problem, aggregate), {"alpha": alpha})
            moved = math.inf if last is None else float((middle - last).norm())
            if self.restart and k >= 3 and moved < speed:
                k, alpha = 0, 1.0
            speed, last = moved, middle
