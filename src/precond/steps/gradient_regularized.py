"""Regularization by the square root of the gradient norm."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Advance, BadInputError, Objective, Point, Search, Status
from precond.math.machine.scalars import scalars


@dataclasses.dataclass
class GradientRegularizedState:
    """The running estimate.

    Attributes:
        h: Estimate ``H`` of half the Lipschitz constant of the Hessian, ``[1]``, float64.
    """

    h: Tensor


@final
@dataclasses.dataclass(frozen=True)
class GradientRegularized(Search[GradientRegularizedState]):
    """The full step of a system shifted by ``lambda = sqrt(H ||g||)`` (Mishchenko, arXiv 2112.02089).

    With ``search``, every iteration starts from ``H / 2`` and doubles it until ``f+ <= f - (2/3) lambda r^2`` and
    ``||g+|| <= 2 lambda r``, where ``r`` is the length of the step. From the ``patience``-th failure of one iteration
    on the factor itself doubles, so that a far too small start costs few trials. Where the decrease asked for is
    below rounding, the test of the gradient decides alone.

    Attributes:
        h: First ``H``; half the Lipschitz constant of the Hessian when it is known and ``search`` is off.
        search: Adapt ``H``.
        patience: Failures in one iteration before the factor grows.
        max_trials: Largest number of trials in one iteration.
    """

    h: float = 5e-6
    search: bool = True
    patience: int = 3
    max_trials: int = 40

    shifts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the estimate."""
        if not (self.h > 0 and math.isfinite(self.h)):
            raise BadInputError(f"H must be positive and finite, not {self.h}")

    def init(self, like: Tensor) -> GradientRegularizedState:
        """Start from the first estimate."""
        return GradientRegularizedState(torch.full((like.shape[0],), self.h, dtype=torch.float64, device=like.device))

    def advance(
        self,
        state: GradientRegularizedState,
        point: Point,
        direction: Callable[[float], Tensor],
        objective: Objective,
    ) -> Advance:
        """Take the regularized step, with ``H`` raised until the tests pass."""
        loss, norm = scalars(point.loss, torch.linalg.vector_norm(point.gradient))
        noise = 100 * torch.finfo(point.loss.dtype).eps * abs(loss)
        if not self.search:
            return Advance(objective.point(point.x + direction(math.sqrt(float(state.h) * norm))))
        h, factor, rounding, broken = float(state.h) / 2, 2.0, False, False
        for failures in range(1, self.max_trials + 1):
            shift = math.sqrt(h * norm)
            step = direction(shift)
            trial = objective.point(point.x + step)
            r, new_loss, new_norm = torch.stack(
                [step.norm(), trial.loss.to(step), trial.gradient.norm()]
            ).tolist()  # fmt: skip
            rounding = abs(new_loss - loss) <= noise
            decreased = new_loss <= loss - 2 / 3 * shift * r * r or rounding
            broken |= not math.isfinite(new_loss + new_norm)
            moved = new_loss < loss or new_norm < norm  # not a step of no length
            if decreased and moved and math.isfinite(new_loss) and new_norm <= 2 * shift * r:
                state.h.fill_(h)
                return Advance(trial)
            if rounding and new_norm < norm:
                state.h.fill_(h)
                return Advance(trial)
            if failures >= self.patience:
                factor *= 2
            h *= factor
            if not math.sqrt(h * norm) <= torch.finfo(point.x.dtype).max:
                break
        if broken:
            return Advance(point, Status.FAILED_NON_FINITE)
        return Advance(point, Status.FAILED_STAGNATION if rounding else Status.FAILED_LINE_SEARCH)
