"""The tau preconditioner of symmetric Toeplitz matrices."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from precond.core import Evidence, Health, IncompatibleError, Need, Operator, Preconditioner, Scope, Traits
from precond.math.toeplitz import away_from_zero, natural_tau, sine_transform
from precond.preconditioners.shifts import refuse_shift
from precond.preconditioners.toeplitz import toeplitz_entries


@dataclasses.dataclass
class TauState:
    """State of `Tau`; the identity while empty.

    Attributes:
        operator: The operator seen last.
        inverse: Returns the reciprocal eigenvalues, shape ``[n]``.
    """

    operator: Operator | None = None
    inverse: Any = None


@final
@dataclasses.dataclass(frozen=True)
class Tau(Preconditioner[TauState]):
    """``apply(v) = S diag(1 / |lambda|) S v`` with the sine transform ``S`` and ``lambda_j = f(pi j / (n + 1))``.

    ``f`` is the symbol ``t_0 + 2 sum_k t_k cos(k theta)`` of a real symmetric Toeplitz matrix; a zero of it at the
    origin is never sampled, which circulants cannot say. Entries are read as by `Circulant`.
    """

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL

    @property
    def traits(self) -> Traits:
        """Symmetric and positive definite, always."""
        return Traits()

    def init(self, like: Tensor) -> TauState:
        """Start as the identity."""
        return TauState()

    def observe(self, state: TauState, evidence: Evidence) -> None:
        """Take the operator; refuse one that is complex, or known not to be symmetric."""
        operator = evidence.operator
        if operator is not None and (operator.dtype.is_complex or operator.traits.symmetric is False):
            raise IncompatibleError("tau needs a real symmetric matrix, this is not: use preconditioner='circulant'")
        state.operator = operator

    def refresh(self, state: TauState) -> Health:
        """Compute the eigenvalues."""
        if state.operator is None:
            return Health()
        column, row = toeplitz_entries(state.operator, "tau")
        values = natural_tau((column + row) / 2).abs()
        if not bool(torch.isfinite(values).all()):
            return Health(failures=1, detail="tau: an eigenvalue is not finite; the last ones are kept")
        values, replaced = away_from_zero(values)
        inverse = 1 / values
        state.inverse = lambda: inverse
        return Health(detail=f"tau: {replaced} vanishing eigenvalues were replaced" if replaced else "")

    def apply(self, state: TauState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Divide the sine coefficients by the eigenvalues."""
        refuse_shift(self, shift)
        return v if state.inverse is None else sine_transform(sine_transform(v) * state.inverse())
