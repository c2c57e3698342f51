"""Smooth problems in another unit of the objective, for those whose numbers leave the range of their squares."""

from __future__ import annotations

import dataclasses
import math

from torch import Tensor, finfo

from precond.core import Delegating, Objective, Operator, Point, Status, Work
from precond.math.norms import whole_norm
from precond.operators.hessian import Hessian
from precond.solvers.smooth.forms import SmoothForm
from precond.solvers.smooth.minimize import Outcome
from precond.solvers.smooth.objectives import TorchObjective


class InUnit(Delegating):
    """An objective times a number, whose values, gradients and Hessians are multiplied by it.

    Args:
        base: The objective.
        unit: The number, a power of two, so that nothing is rounded.
    """

    def __init__(self, base: Objective, unit: float) -> None:
        super().__init__(base)
        self._unit = unit

    def value(self, x: Tensor) -> Tensor:
        """Return the value at ``x``."""
        return self.base.value(x) * self._unit

    def point(self, x: Tensor) -> Point:
        """Return value and gradient at ``x``."""
        return times(self.base.point(x), self._unit)

    def hessian(self, x: Tensor) -> Operator:
        """Return the Hessian at ``x``."""
        within = self.base.hessian(x)
        return Hessian(lambda v: within.matvec(v[None])[0] * self._unit, x[0], Work())  # the base counts


def times(point: Point, unit: float) -> Point:
    """Return a point in another unit of the objective."""
    return point if unit == 1 else Point(point.x, point.loss * unit, point.gradient * unit)


def in_unit(form: SmoothForm, unit: float) -> SmoothForm:
    """Return a problem whose objective is multiplied by a power of two."""

    def objective(work: Work, curvature: bool) -> Objective:
        base = form.objective(work, curvature)
        if isinstance(base, TorchObjective):
            return TorchObjective(lambda x: base.evaluate(x) * unit, curvature=curvature, work=work)
        return InUnit(base, unit)

    return dataclasses.replace(form, objective=objective)


def better_unit(outcome: Outcome) -> float | None:
    """Return a power of two that makes the last gradient one of ordinary size, where a run failed and it was not.

    Methods multiply and divide up to four such numbers: where that leaves the range of the arithmetic, what has failed
    may be the unit alone.

    Args:
        outcome: How the run ended.

    Returns:
        The number; ``None`` where there is no reason for one.
    """
    gradient = outcome.point.gradient
    norm, limits = float(whole_norm(gradient)), finfo(gradient.dtype)
    failed = outcome.status in (Status.FAILED_NON_FINITE, Status.FAILED_STAGNATION, Status.FAILED_LINE_SEARCH)
    if not failed or not 0 < norm < math.inf or limits.tiny**0.25 <= norm <= limits.max**0.25:
        return None
    return 2.0 ** min(1000, -math.frexp(norm)[1])
