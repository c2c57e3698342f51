"""Symmetric successive over-relaxation."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

from torch import Tensor

from precond.core import BadInputError, Evidence, Health, IncompatibleError, Need, Preconditioner, Scope, Traits
from precond.math.relaxation import relaxation
from precond.preconditioners.triangles import TrianglesState, operator_with_entries


@final
@dataclasses.dataclass(frozen=True)
class SSOR(Preconditioner[TrianglesState]):
    """One symmetric sweep of SOR.

    With ``A = L + D + U`` (strict triangles and diagonal)::

        apply(v) = omega (2 - omega) (D + omega U)^-1 D (D + omega L)^-1 v

    Positive definite when ``A`` is symmetric with a positive diagonal. Zeros on the diagonal are replaced by one, and
    ``refresh`` says so.

    Attributes:
        omega: Relaxation, in ``(0, 2)``; one gives symmetric Gauss-Seidel.
    """

    omega: float = 1.0

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL
    side_by_side: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the relaxation."""
        if not 0 < self.omega < 2:
            raise BadInputError(f"ssor needs 0 < omega < 2, not {self.omega}")

    @property
    def traits(self) -> Traits:
        """Symmetric and definite, for a symmetric matrix with a positive diagonal."""
        return Traits()

    def init(self, like: Tensor) -> TrianglesState:
        """Start as the identity."""
        return TrianglesState()

    def observe(self, state: TrianglesState, evidence: Evidence) -> None:
        """Take the matrix."""
        state.operator = operator_with_entries(evidence, "ssor")

    def refresh(self, state: TrianglesState) -> Health:
        """Keep ``omega D^-1 L`` and ``omega D^-1 U``: both triangles then have unit diagonals."""
        matrix = None if state.operator is None else state.operator.entries()
        if matrix is None:
            return Health()
        state.lower, state.upper, state.scales, zeros = relaxation(matrix, self.omega)
        return Health(detail=f"ssor: {zeros} zeros on the diagonal were replaced by one" if zeros else "")

    def compiled(self, state: TrianglesState) -> tuple[Any, ...]:
        """Return the arrays of both sweeps."""
        return state.compiled()

    def apply(self, state: TrianglesState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Sweep forth and back."""
        if shift != 0:
            raise IncompatibleError("ssor accepts no shift: use jacobi or identity")
        return state.apply(v)

    def apply_adjoint(self, state: TrianglesState, v: Tensor) -> Tensor:
        """Sweep with the adjoint triangles, the other way round."""
        return state.apply_adjoint(v)
