"""Iterations for linear systems: a method yields its progress, whoever runs it decides when to stop."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import ClassVar

from torch import Tensor

from precond.core.operator import Operator
from precond.core.result import Status
from precond.core.traits import Need

Map = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where an iteration stands.

    Attributes:
        residual: The method's own estimate of the residual norm that it minimizes or tracks, shape ``[batch]``.
        solution: Returns the current iterate, shape ``[batch, n]``; may cost work, so call it when needed.
        normal: For least squares, the method's own estimate of ``||A^H r||``, shape ``[batch]``.
        failure: Why the iteration cannot go on; ``None`` while it can.
        solved: The iteration found the exact solution of its subspace (a lucky breakdown).
    """

    residual: Tensor
    solution: Callable[[], Tensor]
    normal: Tensor | None = None
    failure: Status | None = None
    solved: bool = False


class Iteration(abc.ABC):
    """One iterative method for ``A x = b`` or ``min ||A x - b||``, as a frozen dataclass of hyperparameters.

    Class attributes say what it requires, and a driver refuses before the first product.
    """

    needs: ClassVar[Need] = Need.OPERATOR
    square: ClassVar[bool] = True
    """Solves square systems (False: least squares)."""
    symmetric_operator: ClassVar[bool] = False
    definite_operator: ClassVar[bool] = False
    symmetric_preconditioner: ClassVar[bool] = False
    """Requires a symmetric, positive definite preconditioner."""
    fixed_preconditioner: ClassVar[bool] = True
    """Requires a linear preconditioner that does not change between applications."""
    finishes: ClassVar[bool] = False
    """Ends by itself at the accuracy of the arithmetic, like a direct method: a tolerance does not stop it earlier."""

    @abc.abstractmethod
    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0`` first, then after each iteration; return when nothing more can be done.

        Args:
            operator: The linear map ``A``.
            b: Right-hand sides, shape ``[batch, m]``.
            precondition: Applies ``P`` to a batch of vectors.
            x0: Starting points, shape ``[batch, n]``.

        Returns:
            A generator of the progress, which does work only when asked for the next item.
        """
