"""The triangle of a sketched matrix, for least squares."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Embedding,
    Evidence,
    Health,
    IncompatibleError,
    Need,
    Operator,
    Preconditioner,
    Scope,
    Sketch,
    Traits,
)  # fmt: skip

_least = 8  # rows of the sketch for each column, below which iterations would be many


@dataclasses.dataclass
class SketchQRState:
    """State of `SketchQR`; what is known of the matrix is one thing for all right-hand sides.

    Attributes:
        operator: The Gram operator seen last.
        factors: What `refresh` made of it; ``None`` stands for the identity.
    """

    operator: Operator | None = None
    factors: _Factors | None = None


@final
@dataclasses.dataclass(frozen=True)
class SketchQR(Preconditioner[SketchQRState]):
    """``P = (A^H S^H S A)^-1`` for the normal equations of a tall ``A``, by a QR factorization of ``S A``.

    With ``oversampling`` times as many rows in ``S A`` as columns, the eigenvalues of ``P A^H A`` lie within
    ``(1 +- oversampling^-1/2)^-2`` or so, whatever the condition of ``A``. (V. Rokhlin, M. Tygert, *A fast randomized
    algorithm for overdetermined linear least-squares regression*, 2008.) The columns of ``S A`` are scaled to unit
    norm before the factorization. When its condition number exceeds ``1 / (30 u)``, singular values below ``30 u``
    times the largest are left out, and `refresh` says how many. The sketch has at most a quarter of the rows, or eight
    rows for each column; where that is more than half of the rows, the matrix is factored itself.

    ``guess`` is the solution of the sketched problem ``min ||S A x - S b||``, and shifts are exact:
    ``(A^H S^H S A + shift D^2)^-1``, with ``D`` the norms of the columns of ``S A``.

    Attributes:
        sketch: The distribution of ``S``.
        oversampling: Rows of ``S A`` for each column.
        seed: Seed of ``S``.
    """

    sketch: Sketch
    oversampling: float = 30.0
    seed: int = 0

    needs: ClassVar[Need] = Need.OPERATOR | Need.ROOT
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the number of rows."""
        if not self.oversampling > 1:
            raise BadInputError(f"sketch-qr needs oversampling above 1, not {self.oversampling}")

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite, and close to the inverse."""
        return Traits(shiftable=True, equivalent=True)

    def init(self, like: Tensor) -> SketchQRState:
        """Start as the identity."""
        return SketchQRState()

    def observe(self, state: SketchQRState, evidence: Evidence) -> None:
        """Take the Gram operator of a least-squares problem."""
        if evidence.operator is None or evidence.operator.root() is None:
            raise IncompatibleError(
                "sketch-qr preconditions least-squares problems, it needs A itself: use precond.lstsq, or "
                "preconditioner='nystrom' for a symmetric positive definite system"
            )
        state.operator = evidence.operator

    def refresh(self, state: SketchQRState) -> Health:
        """Sketch the matrix and factor what comes out; values that are not finite keep the last factor."""
        root = None if state.operator is None else state.operator.root()
        if root is None:
            return Health()
        rows, columns = root.shape
        size = min(int(self.oversampling * columns), max(_least * columns, rows // 4))
        size = min(rows, max(size, columns + 8))
        embedding = None
        if 2 * size < rows:
            embedding = self.sketch.draw(rows, size, seed=self.seed, dtype=root.dtype, device=root.device)
            sketched = root.sketched(embedding)
        else:
            sketched = _dense(root)
        factors = _factor(sketched, embedding)
        if factors is None:
            return Health(1, "sketch-qr: the sketch is not finite; the last factor is kept")
        state.factors = factors
        left_out = 0 if factors.basis is None else columns - factors.basis.shape[1]
        if left_out == 0:
            return Health()
        return Health(detail=f"sketch-qr: {left_out} of {columns} directions are left out as dependent")

    def apply(self, state: SketchQRState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``(A^H S^H S A + shift D^2)^-1 v``."""
        if state.factors is None:
            return v / (1 + shift)
        return state.factors.apply(v) if shift == 0 else state.factors.apply_shifted(v, shift)

    def metric(self, state: SketchQRState, v: Tensor) -> Tensor:
        """Return ``D^2 v``."""
        return v if state.factors is None else v * state.factors.scale.square()

    def guess(self, state: SketchQRState, b: Tensor) -> Tensor | None:
        """Return the solution of the sketched problem, by seminormal equations with one correction."""
        if state.factors is None:
            return None
        sketched, embedding = state.factors.sketched, state.factors.embedding
        rhs = b if embedding is None else embedding.apply(b.mT.contiguous()).mT
        x = state.factors.apply(rhs @ sketched.conj())
        return x + state.factors.apply((rhs - x @ sketched.mT) @ sketched.conj())


class _Factors:
    """``S A = Q T D``, with ``T`` triangular or, where columns depend on each other, a basis of what is left.

    Args:
        sketched: ``S A``, shape ``[size, n]``.
        embedding: ``S``; ``None`` for the identity.
        scale: ``D``, the norms of the columns, shape ``[n]``.
        triangle: ``T``, shape ``[n, n]``.
        basis: ``W`` with ``P = W W^H``, shape ``[n, rank]``, where directions are left out.
    """

    def __init__(
        self, sketched: Tensor, embedding: Embedding | None, scale: Tensor, triangle: Tensor, basis: Tensor | None
    ) -> None:
        self.sketched, self.embedding, self.scale = sketched, embedding, scale
        self.triangle, self.basis = triangle, basis

    def apply(self, v: Tensor) -> Tensor:
        """Return ``P v`` for each row."""
        if self.basis is not None:
            return (v @ self.basis.conj()) @ self.basis.mT
        y = torch.linalg.solve_triangular(self.triangle.mH, (v / self.scale).mT, upper=False)
        return torch.linalg.solve_triangular(self.triangle, y, upper=True).mT / self.scale

    def apply_shifted(self, v: Tensor, shift: float) -> Tensor:
        """Return ``D^-1 (T^H T + shift I)^-1 D^-1 v`` for each row, by the triangle of ``[T; shift^1/2 I]``."""
        below = torch.diag(torch.full_like(self.scale, shift**0.5)).to(self.triangle.dtype)
        triangle = torch.linalg.qr(torch.cat([self.triangle, below]), mode="r").R
        y = torch.linalg.solve_triangular(triangle.mH, (v / self.scale).mT, upper=False)
        return torch.linalg.solve_triangular(triangle, y, upper=True).mT / self.scale


def _dense(operator: Operator) -> Tensor:
    """Return the matrix of an operator."""
    matrix = operator.dense()
    if matrix is None:
        entries = operator.entries()
        if entries is not None:
            return torch.from_numpy(entries.toarray()).to(operator.device)
        matrix = operator.matvec(torch.eye(operator.shape[1], dtype=operator.dtype, device=operator.device)).mT
    return matrix


def _factor(sketched: Tensor, embedding: Embedding | None) -> _Factors | None:
    """Factor ``S A``; ``None`` when it is not finite."""
    scale = torch.linalg.vector_norm(sketched, dim=0)
    if not bool(torch.isfinite(scale).all()):
        return None
    empty, scale = scale == 0, torch.where(scale > 0, scale, 1)
    triangle = torch.linalg.qr(sketched / scale, mode="r").R
    smallest = 30 * torch.finfo(scale.dtype).eps / 2
    basis = None
    if len(triangle) < len(scale) or _inverse_size(triangle) * smallest > 0.1 / len(scale) ** 0.5:
        try:
            _, values, vectors = torch.linalg.svd(triangle, full_matrices=False)
        except torch.linalg.LinAlgError:
            return None
        kept = values > smallest * values[0]
        if not bool(kept.all()) or len(triangle) < len(scale):
            basis = (vectors[kept].mH / values[kept]) / scale.unsqueeze(1)
            basis[empty] = 0
    return _Factors(sketched, embedding, scale, triangle, basis)


def _inverse_size(triangle: Tensor) -> float:
    """Estimate ``||T^-1||`` from below, by three steps of the power method; infinite for a zero on the diagonal."""
    if not bool(triangle.diagonal().all()):
        return float("inf")
    v = torch.ones(len(triangle), 1, dtype=triangle.dtype, device=triangle.device)
    size = 0.0
    for _ in range(3):
        v = v / torch.linalg.vector_norm(v)
        v = torch.linalg.solve_triangular(triangle.mH, v, upper=False)
        v = torch.linalg.solve_triangular(triangle, v, upper=True)
        size = float(torch.linalg.vector_norm(v)) ** 0.5
        if not size < float("inf"):
            return float("inf")
    return size
