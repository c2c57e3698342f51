"""Circulant preconditioners of Toeplitz matrices."""

from __future__ import annotations

import dataclasses
from typing import Literal, final

import torch
from torch import Tensor

from precond.core import BadInputError, Operator
from precond.math.toeplitz import optimal, strang
from precond.preconditioners.shifts import refuse_shift
from precond.preconditioners.toeplitz import Diagonalized, SpectrumState, toeplitz_entries


@final
@dataclasses.dataclass(frozen=True)
class Circulant(Diagonalized):
    """``apply(v) = F^-1 diag(1 / lambda) F v`` with the eigenvalues ``lambda`` of a circulant near a Toeplitz matrix.

    A matrix with entries is read by the means of its diagonals; one known by products must be Toeplitz, which a random
    product checks. Of a symmetric matrix the eigenvalues enter by their absolute values, so that the map is positive
    definite. Eigenvalues at rounding are replaced by the smallest of the others, and ``refresh`` says so.

    Attributes:
        kind: ``"chan"`` (nearest in the Frobenius norm) or ``"strang"`` (copies the central diagonals).
    """

    kind: Literal["chan", "strang"] = "chan"

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in ("chan", "strang"):
            raise BadInputError(f"circulant has kind='chan' or 'strang', not {self.kind!r}")

    def eigenvalues(self, operator: Operator) -> Tensor:
        """Return those of the circulant, by their absolute values where the matrix is symmetric."""
        column, row = toeplitz_entries(operator, "circulant")
        values = (optimal if self.kind == "chan" else strang)(column, row)
        return values.real.abs() if operator.traits.symmetric else values

    def apply(self, state: SpectrumState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Divide the Fourier coefficients by the eigenvalues."""
        refuse_shift(self, shift)
        return v if state.inverse is None else _filtered(v, state.inverse())

    def apply_adjoint(self, state: SpectrumState, v: Tensor) -> Tensor:
        """Divide the Fourier coefficients by the conjugate eigenvalues."""
        return v if state.inverse is None else _filtered(v, state.inverse().conj())


def _filtered(v: Tensor, inverse: Tensor) -> Tensor:
    product = torch.fft.ifft(torch.fft.fft(v) * inverse)
    return product if v.is_complex() else product.real.contiguous()
