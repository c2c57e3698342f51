"""Circulant preconditioners of Toeplitz matrices."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Health, Need, Operator, Preconditioner, Scope, Traits
from precond.math.toeplitz import away_from_zero, optimal, strang
from precond.preconditioners.shifts import refuse_shift
from precond.preconditioners.toeplitz import toeplitz_entries


@dataclasses.dataclass
class CirculantState:
    """State of `Circulant`; the identity while empty.

    Attributes:
        operator: The operator seen last.
        inverse: Returns the reciprocal eigenvalues, shape ``[n]``.
    """

    operator: Operator | None = None
    inverse: Any = None


@final
@dataclasses.dataclass(frozen=True)
class Circulant(Preconditioner[CirculantState]):
    """``apply(v) = F^-1 diag(1 / lambda) F v`` with the eigenvalues ``lambda`` of a circulant near a Toeplitz matrix.

    A matrix with entries is read by the means of its diagonals; one known by products must be Toeplitz, which a random
    product checks. Of a symmetric matrix the eigenvalues enter by their absolute values, so that the map is positive
    definite. Eigenvalues at rounding are replaced by the smallest of the others, and ``refresh`` says so.

    Attributes:
        kind: ``"chan"`` (nearest in the Frobenius norm) or ``"strang"`` (copies the central diagonals).
    """

    kind: Literal["chan", "strang"] = "chan"

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in ("chan", "strang"):
            raise BadInputError(f"circulant has kind='chan' or 'strang', not {self.kind!r}")

    @property
    def traits(self) -> Traits:
        """Symmetric and positive definite, for a symmetric matrix."""
        return Traits()

    def init(self, like: Tensor) -> CirculantState:
        """Start as the identity."""
        return CirculantState()

    def observe(self, state: CirculantState, evidence: Evidence) -> None:
        """Take the operator."""
        state.operator = evidence.operator

    def refresh(self, state: CirculantState) -> Health:
        """Compute the eigenvalues."""
        if state.operator is None:
            return Health()
        column, row = toeplitz_entries(state.operator, "circulant")
        values = (optimal if self.kind == "chan" else strang)(column, row)
        if state.operator.traits.symmetric:
            values = values.real.abs()
        if not bool(torch.isfinite(values).all()):
            return Health(failures=1, detail="circulant: an eigenvalue is not finite; the last ones are kept")
        values, replaced = away_from_zero(values)
        inverse = 1 / values
        state.inverse = lambda: inverse
        return Health(detail=f"circulant: {replaced} vanishing eigenvalues were replaced" if replaced else "")

    def apply(self, state: CirculantState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Divide the Fourier coefficients by the eigenvalues."""
        refuse_shift(self, shift)
        return v if state.inverse is None else _filtered(v, state.inverse())

    def apply_adjoint(self, state: CirculantState, v: Tensor) -> Tensor:
        """Divide the Fourier coefficients by the conjugate eigenvalues."""
        return v if state.inverse is None else _filtered(v, state.inverse().conj())


def _filtered(v: Tensor, inverse: Tensor) -> Tensor:
    product = torch.fft.ifft(torch.fft.fft(v) * inverse)
    return product if v.is_complex() else product.real.contiguous()
