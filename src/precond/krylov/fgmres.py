"""Flexible generalized minimum residuals: the preconditioner may change in every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

from torch import Tensor

from precond.core import BadInputError, Iteration, Map, Operator, Progress
from precond.krylov.gmres import cycles


@final
@dataclasses.dataclass(frozen=True)
class FGMRES(Iteration):
    """Flexible restarted GMRES: GMRES from the right that keeps ``z_j = P_j v_j`` for each step.

    ``A Z_j = V_{j+1} H_j`` holds whatever ``P_j`` is, so the iterate ``x + Z_j y`` with ``y`` minimizing
    ``|| beta e_0 - H_j y ||`` has minimal residual over ``x + span(Z_j)``. A preconditioner may therefore be another
    iteration (`InverseOf`). With a fixed one the iterates are those of GMRES.

    (Y. Saad, *A flexible inner-outer preconditioned GMRES algorithm*, 1993.)

    Attributes:
        restart: Steps of a cycle, ``m``; a cycle keeps ``2 m + 1`` vectors.
    """

    restart: int = 30

    fixed_preconditioner: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the length of a cycle."""
        if self.restart < 1:
            raise BadInputError(f"fgmres needs a cycle of at least 1 step, not restart={self.restart}")

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residual is that of the small problem."""
        return cycles(self.restart, operator, b, precondition, x0, flexible=True)
