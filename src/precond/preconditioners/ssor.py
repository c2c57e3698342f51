"""Symmetric successive over-relaxation."""

from __future__ import annotations

import dataclasses
from typing import final

from torch import Tensor

from precond.core import BadInputError, Health, Traits
from precond.math.sparse.relaxation import relaxation
from precond.preconditioners.triangles import Swept, TrianglesState, check_domains


@final
@dataclasses.dataclass(frozen=True)
class SSOR(Swept):
    """One symmetric sweep of SOR.

    With ``A = L + D + U`` (strict triangles and diagonal)::

        apply(v) = omega (2 - omega) (D + omega U)^-1 D (D + omega L)^-1 v

    Positive definite when ``A`` is symmetric with a positive diagonal. Zeros on the diagonal are replaced by one, and
    ``refresh`` says so.

    Attributes:
        omega: Relaxation, in ``(0, 2)``; one gives symmetric Gauss-Seidel.
        domains: Domains into which the matrix is cut, as for `IC0`: relaxed first, what separates them last.
    """

    omega: float = 1.0
    domains: int | None = 1

    def __post_init__(self) -> None:
        """Check the relaxation."""
        if not 0 < self.omega < 2:
            raise BadInputError(f"ssor needs 0 < omega < 2, not {self.omega}")
        check_domains("ssor", self.domains)

    @property
    def traits(self) -> Traits:
        """Symmetric and definite, for a symmetric matrix with a positive diagonal."""
        return Traits()

    def refresh(self, state: TrianglesState) -> Health:
        """Keep ``omega D^-1 L`` and ``omega D^-1 U``: both triangles then have unit diagonals."""
        matrix, domains = state.matrix(self.domains)
        if matrix is None:
            return Health()
        state.lower, state.upper, state.scales, zeros = relaxation(matrix, self.omega)
        state.domains = domains
        return Health(detail=f"ssor: {zeros} zeros on the diagonal were replaced by one" if zeros else "")

    def apply_adjoint(self, state: TrianglesState, v: Tensor) -> Tensor:
        """Sweep with the adjoint triangles, the other way round."""
        return state.apply_adjoint(v)
