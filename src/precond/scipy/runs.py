"""Runs of this library's methods on a fit that was asked for as SciPy's function takes it."""

from __future__ import annotations

import dataclasses
from typing import Any

import scipy.optimize

import precond.residuals as residuals
import precond.smooth as smooth
from precond.core import Result, Work
from precond.scipy.asked import Asked, by_products
from precond.scipy.robust import Array, Robust


@dataclasses.dataclass(frozen=True)
class Runs:
    """What runs of one fit have in common, and what they did.

    Attributes:
        asked: The functions.
        method: Name of a method of this library, or ``"auto"``.
        bounds: Bounds on the variables; ``None`` without finite ones.
        tol: Bound on what is certified.
        limit: Largest number of iterations.
        slopes: The user's Jacobian at some point; ``None`` for differences.
        works: What each run did.
    """

    asked: Asked
    method: str
    bounds: scipy.optimize.Bounds | None
    tol: float
    limit: int | None
    slopes: Any
    works: list[Work] = dataclasses.field(default_factory=list)

    @property
    def points(self) -> int:
        """Evaluations of the residuals, or of the sum, but for differences and certificates."""
        return sum(work.losses - work.differences for work in self.works)

    @property
    def jacobians(self) -> int:
        """Jacobians, or gradients of the sum."""
        return sum(work.jacobians or work.gradients for work in self.works)

    def run(self, loss: Robust | None, start: Array, watch: Any) -> Result:
        """Minimize from a start.

        Args:
            loss: A robust loss; ``None`` for the sum of squares.
            start: The starting point, ``[n]``.
            watch: The callback.

        Returns:
            The result; within bounds, where a fit ends without a certificate, the better of that and of the
            interior-point method's.
        """
        if self.bounds is not None and by_products(self.slopes):
            return self._whole(loss, start, watch)
        asked = self.asked
        found = residuals.least_squares(
            lambda x: asked.transformed(loss, x), start, tol=self.tol, max_iterations=self.limit, callback=watch,
            jac=None if asked.jac is None else lambda x: asked.rows(loss, x), method=self.method, bounds=self.bounds,
        )  # fmt: skip
        self.works.append(found.work)
        if self.bounds is None or found.status.group != "failed":
            return found
        other = self._whole(loss, start, watch)
        return min(found, other, key=lambda result: (not result.converged, asked.cost(loss, result.x)))

    def _whole(self, loss: Robust | None, start: Array, watch: Any) -> Result:
        """Minimize the sum itself within the bounds."""
        asked = self.asked
        found = smooth.minimize(
            lambda x: asked.cost(loss, x), start, jac=lambda x: asked.gradient(loss, x), bounds=self.bounds,
            tol=self.tol, max_iterations=self.limit, callback=watch,
        )  # fmt: skip
        self.works.append(found.work)
        return found
