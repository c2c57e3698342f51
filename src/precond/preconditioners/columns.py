"""One number per column of each matrix."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Need, Preconditioner, Role, Scope, Traits, need, rests_as
from precond.preconditioners.diagonal import Diagonal


@dataclasses.dataclass
class ColumnsState:
    """State of `Columns`.

    Attributes:
        second_moment: Average of the squared norms of the columns, ``[batch, columns]``.
    """

    second_moment: Tensor = rests_as(Role.NON_NEGATIVE)


@final
@dataclasses.dataclass(frozen=True)
class Columns(Preconditioner[ColumnsState]):
    """``B = sqrt(s + eps)`` with ``s`` the second moment of the norm of each column of the gradient.

    Tensors of more than two axes are flattened to ``(first, -1)``; vectors are matrices of one row.

    Source: the diagonal form of ASGO (arXiv 2503.20762).

    Attributes:
        beta: Decay of the average, which starts at zero; 1 sums.
        eps: Added under the root.
    """

    needs: ClassVar[Need] = Need.GRADIENT
    scope: ClassVar[Scope] = Scope.MATRIX
    beta: float = 0.95
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Check the decay and what is added."""
        if not (0.0 <= self.beta < 1.0 and self.eps >= 0.0):
            raise BadInputError(f"beta must be in [0, 1) and eps not negative, not {self.beta} and {self.eps}")

    @property
    def traits(self) -> Traits:
        """A positive diagonal that moves with every gradient."""
        return Traits(fixed=False, shiftable=True)

    @property
    def elementwise(self) -> Diagonal:
        """RMSProp: one number per entry instead of per column."""
        return Diagonal(self.beta, self.eps, debias=False)

    def init(self, like: Tensor) -> ColumnsState:
        """Start at zero."""
        return ColumnsState(torch.zeros_like(_rows(like)[:, 0]))

    def observe(self, state: ColumnsState, evidence: Evidence) -> None:
        """Absorb the squared norms of the columns of a gradient."""
        squares = _rows(need(evidence.gradient, "gradient")).square().sum(1)
        state.second_moment.mul_(self.beta).add_(squares, alpha=1.0 if self.beta == 1.0 else 1.0 - self.beta)

    def apply(self, state: ColumnsState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``v / (sqrt(s + eps) + shift)``, column by column."""
        root = (state.second_moment + self.eps).sqrt() + shift
        return (_rows(v) / root.unsqueeze(1)).reshape(v.shape)


def _rows(v: Tensor) -> Tensor:
    return v.reshape(v.shape[0], 1, -1) if v.ndim <= 2 else v.flatten(2)
