"""The tau preconditioner of symmetric Toeplitz matrices."""

from __future__ import annotations

import dataclasses
from typing import final

from torch import Tensor

from precond.core import Evidence, IncompatibleError, Operator
from precond.math.toeplitz import natural_tau, sine_transform
from precond.preconditioners.shifts import refuse_shift
from precond.preconditioners.toeplitz import Diagonalized, SpectrumState, toeplitz_entries


@final
@dataclasses.dataclass(frozen=True)
class Tau(Diagonalized):
    """``apply(v) = S diag(1 / |lambda|) S v`` with the sine transform ``S`` and ``lambda_j = f(pi j / (n + 1))``.

    ``f`` is the symbol ``t_0 + 2 sum_k t_k cos(k theta)`` of a real symmetric Toeplitz matrix; a zero of it at the
    origin is never sampled, which circulants cannot say. Entries are read as by `Circulant`.
    """

    def observe(self, state: SpectrumState, evidence: Evidence) -> None:
        """Take the operator; refuse one that is complex, or known not to be symmetric."""
        operator = evidence.operator
        if operator is not None and (operator.dtype.is_complex or operator.traits.symmetric is False):
            raise IncompatibleError("tau needs a real symmetric matrix, this is not: use preconditioner='circulant'")
        state.operator = operator

    def eigenvalues(self, operator: Operator) -> Tensor:
        """Return the values of the symbol, by their absolute values."""
        column, row = toeplitz_entries(operator, "tau")
        return natural_tau((column + row) / 2).abs()

    def apply(self, state: SpectrumState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Divide the sine coefficients by the eigenvalues."""
        refuse_shift(self, shift)
        return v if state.inverse is None else sine_transform(sine_transform(v) * state.inverse())
