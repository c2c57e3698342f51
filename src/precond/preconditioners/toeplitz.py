"""What preconditioners of Toeplitz matrices are made from: a first column and a first row."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor

from precond.core import Evidence, Health, IncompatibleError, Need, Operator, Preconditioner, Scope, Traits
from precond.math.toeplitz import away_from_zero, diagonal_means, embedded, product


@dataclasses.dataclass
class SpectrumState:
    """Eigenvalues in a basis with a fast transform; the identity while empty.

    Attributes:
        operator: The operator seen last.
        inverse: Returns the reciprocal eigenvalues, shape ``[n]``.
    """

    operator: Operator | None = None
    inverse: Any = None


class Diagonalized(Preconditioner[SpectrumState], abc.ABC):
    """A matrix near a Toeplitz matrix that a fast transform diagonalizes."""

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL

    @property
    def traits(self) -> Traits:
        """Symmetric and positive definite, for a symmetric matrix."""
        return Traits()

    def init(self, like: Tensor) -> SpectrumState:
        """Start as the identity."""
        return SpectrumState()

    def observe(self, state: SpectrumState, evidence: Evidence) -> None:
        """Take the operator."""
        state.operator = evidence.operator

    def refresh(self, state: SpectrumState) -> Health:
        """Compute the eigenvalues; those at rounding are replaced by the smallest of the others."""
        if state.operator is None:
            return Health()
        name, values = type(self).__name__.lower(), self.eigenvalues(state.operator)
        if not bool(torch.isfinite(values).all()):
            return Health(failures=1, detail=f"{name}: an eigenvalue is not finite; the last ones are kept")
        values, replaced = away_from_zero(values)
        inverse = 1 / values
        state.inverse = lambda: inverse
        return Health(detail=f"{name}: {replaced} vanishing eigenvalues were replaced" if replaced else "")

    @abc.abstractmethod
    def eigenvalues(self, operator: Operator) -> Tensor:
        """Return the eigenvalues, shape ``[n]``."""


def toeplitz_entries(operator: Operator, name: str) -> tuple[Tensor, Tensor]:
    """Return the first column and row of the Toeplitz matrix that an operator is, or is near to.

    Entries, where there are any, are averaged along diagonals; else two products with the first unit vector tell them,
    and a third, with a random vector, whether the operator is Toeplitz at all.

    Args:
        operator: Square.
        name: Of the preconditioner, for the error.

    Returns:
        Vectors of shape ``[n]``, on the device of the operator.

    Raises:
        IncompatibleError: Only products are known, and they are not those of a Toeplitz matrix.
    """
    matrix = operator.entries()
    if matrix is not None:
        column, row = diagonal_means(matrix)
        return column.to(operator.device), row.to(operator.device)
    n = operator.shape[0]
    unit = torch.zeros(1, n, dtype=operator.dtype, device=operator.device)
    unit[0, 0] = 1
    column = operator.matvec(unit)[0]
    if not operator.has_adjoint:
        raise IncompatibleError(f"{name} needs the first row: give the operator an `rmatvec`, or a ToeplitzOperator")
    row = operator.rmatvec(unit)[0].conj()
    probe = torch.randn(1, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    probe = probe.to(operator.device, operator.dtype)
    row = torch.cat([column[:1], row[1:]])
    expected = product(embedded(column, row), probe)
    gap = torch.linalg.vector_norm(operator.matvec(probe) - expected)
    if not float(gap) <= torch.finfo(operator.dtype).eps ** 0.5 * float(torch.linalg.vector_norm(expected)):
        raise IncompatibleError(
            f"{name} needs a Toeplitz matrix, and this operator's products are not those of one: give a matrix with "
            "entries, or use preconditioner='identity'"
        )
    return column, row
