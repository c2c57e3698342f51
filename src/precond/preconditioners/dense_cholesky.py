"""The inverse of a symmetric matrix by one Cholesky factor, made definite where it is not."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Evidence, Health, Need, Operator, Preconditioner, Scope, Traits
from precond.core.materialize import LIMIT, materialize
from precond.math.dense.definite import PIVOT, definite_factor, solve_with_factor
from precond.math.factors.eigen import safe_eigh
from precond.preconditioners.shifts import refuse_shift

PIVOT_SINGLE = 1e-4
"""Share of a diagonal entry below which what elimination leaves in single precision is rounding."""
NOISE = 1e-8
"""Share of the largest eigenvalue below which others are noise, where eigenvalues only precondition."""
SINGLE = 256
"""Side from which a factor that only preconditions is tried in single precision first, which takes half as long."""


@dataclasses.dataclass
class DenseCholeskyState:
    """State of `DenseCholesky`.

    Attributes:
        factor: Lower triangular ``L`` with ``L L' = |B|``, ``[batch, n, n]``, laid out by columns, as LAPACK does.
        operator: The operator last observed.
    """

    factor: Tensor
    operator: Operator | None = None


@final
@dataclasses.dataclass(frozen=True)
class DenseCholesky(Preconditioner[DenseCholeskyState]):
    """``|B|^-1`` for a symmetric matrix known by products, of which there is one for all members of a batch.

    The matrix is assembled where the operator knows a cheap way (unless ``precise``, to single precision, which is
    enough to precondition products in double), and otherwise multiplied out in chunks, below a limit on memory, and
    factored. Where it is not positive definite it is scaled to a unit diagonal, and its eigenvalues are replaced by
    their absolute values, those at rounding by the smallest that counts, so that steps along negative curvature go
    downhill (Dauphin et al., *Identifying and attacking the saddle point problem*, 2014, arXiv 1406.2572).

    Attributes:
        limit: Bytes that the matrix may take.
        precise: Assemble the matrix in the precision of the operator.
    """

    limit: int = LIMIT
    precise: bool = False

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL

    @property
    def traits(self) -> Traits:
        """Symmetric and positive definite; the inverse itself where the matrix is assembled precisely."""
        return Traits(exact=self.precise)

    def init(self, like: Tensor) -> DenseCholeskyState:
        """Start as the identity."""
        batch, n = like.shape
        factor = torch.zeros(batch, n, n, dtype=like.dtype, device=like.device).mT
        factor.diagonal(dim1=1, dim2=2).fill_(1)
        return DenseCholeskyState(factor)

    def observe(self, state: DenseCholeskyState, evidence: Evidence) -> None:
        """Keep the operator."""
        state.operator = evidence.operator

    def refresh(self, state: DenseCholeskyState) -> Health:
        """Assemble and factor the operator last observed; a matrix that is not finite changes nothing."""
        if state.operator is None:
            return Health()
        matrix, skew = state.operator.assembled(coarse=not self.precise), None
        if matrix is None:
            found = materialize(state.operator, self.limit)
            matrix, skew = (found + found.mT) / 2, found - found.mT
        factor = None if self.precise or len(matrix) < SINGLE else definite_factor(matrix.float(), PIVOT_SINGLE)
        factor = definite_factor(matrix, PIVOT) if factor is None else factor
        if factor is None:
            if not bool(torch.isfinite(matrix).all()):
                return Health(len(state.factor), "the matrix is not finite")
            factor = _absolute_root(matrix, skew, 0.0 if self.precise else NOISE)
            if factor is None:
                return Health(len(state.factor), "the eigendecomposition failed")
        state.factor.copy_(factor.expand_as(state.factor))
        return Health()

    def apply(self, state: DenseCholeskyState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``|B|^-1 v``."""
        refuse_shift(self, shift)
        return solve_with_factor(state.factor, v)


def _absolute_root(matrix: Tensor, skew: Tensor | None, noise: float) -> Tensor | None:
    """Return lower triangular ``L`` with ``L L' = |B|``, absolute values taken of ``B`` scaled to a unit diagonal.

    Args:
        matrix: ``B``.
        skew: What was not symmetric of it: no more is known than that, where products are differences.
        noise: Share of the largest eigenvalue up to which the others are noise; rounding is, in any case.

    Returns:
        The factor; ``None`` where the decomposition fails.
    """
    diagonal = matrix.diagonal().abs()
    largest = diagonal.max() if len(diagonal) else diagonal.sum()
    scale = torch.where(diagonal > torch.finfo(matrix.dtype).tiny * largest, diagonal, 1.0).sqrt()
    values, vectors, failed = safe_eigh((matrix / (scale * scale[:, None]))[None])
    if bool(failed):
        return None
    least = max(noise, 64 * len(matrix) * torch.finfo(matrix.dtype).eps) * values.abs().max()
    if skew is not None:
        least = torch.maximum(least, (skew / (scale * scale[:, None])).norm())
    half = vectors[0] * torch.maximum(values.abs(), least).sqrt()
    return torch.linalg.qr(half.mT, mode="r").R.mT * scale[:, None]
