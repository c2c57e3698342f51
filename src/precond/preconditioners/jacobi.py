"""The diagonal of the matrix."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Evidence, Health, IncompatibleError, Need, Operator, Preconditioner, Scope, Traits


@dataclasses.dataclass
class JacobiState:
    """State of `Jacobi`.

    Attributes:
        diagonal: What ``apply`` divides by, shape ``[batch, n]``.
        operator: The operator seen last.
    """

    diagonal: Tensor
    operator: Operator | None = None


@final
@dataclasses.dataclass(frozen=True)
class Jacobi(Preconditioner[JacobiState]):
    """Diagonal scaling: ``apply(v) = v / (d + shift)`` with ``d = |diag(A)|``.

    The absolute value keeps the map positive definite for indefinite matrices, as MINRES requires; for matrices with a
    positive diagonal it changes nothing. Zeros on the diagonal are replaced by one, and ``refresh`` says so.

    Attributes:
        absolute: Divide by ``|diag(A)|``; ``False`` divides by the diagonal with its sign.
    """

    absolute: bool = True

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL
    side_by_side: ClassVar[bool] = True

    @property
    def traits(self) -> Traits:
        """Symmetric; definite when absolute values are taken."""
        return Traits(definite=self.absolute, shiftable=True)

    def init(self, like: Tensor) -> JacobiState:
        """Start as the identity."""
        return JacobiState(torch.ones_like(like))

    def observe(self, state: JacobiState, evidence: Evidence) -> None:
        """Take the operator; refuse one whose diagonal is not known."""
        operator = evidence.operator
        if operator is None or operator.diagonal() is None:
            raise IncompatibleError(
                "jacobi needs the diagonal of the operator: give a matrix, an operator with `diagonal`, or use "
                "preconditioner='identity'"
            )
        state.operator = operator

    def refresh(self, state: JacobiState) -> Health:
        """Copy the diagonal."""
        diagonal = None if state.operator is None else state.operator.diagonal()
        if diagonal is None:
            return Health()
        zeros = int((diagonal == 0).sum())
        diagonal = diagonal.abs() if self.absolute else diagonal
        state.diagonal.copy_(torch.where(diagonal == 0, 1, diagonal).expand_as(state.diagonal))
        return Health(detail=f"jacobi: {zeros} zeros on the diagonal were replaced by one" if zeros else "")

    def apply(self, state: JacobiState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``v / (d + shift)``."""
        return v / state.diagonal if shift == 0 else v / (state.diagonal + shift)
