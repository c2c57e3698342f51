"""The inverse of a dense matrix plus any shift, by one spectral decomposition."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Health, Need, Operator, Preconditioner, Scope, Traits
from precond.math.factors.eigen import safe_eigh

Scaling = Literal["none", "columns", "more"]


@dataclasses.dataclass
class DenseInverseState:
    """State of `DenseInverse`.

    Attributes:
        scale: ``d``, what the variables are multiplied by, ``[batch, n]``.
        values: Eigenvalues of ``D^-1 B D^-1``, ascending, ``[batch, n]``.
        vectors: Its eigenvectors in columns, ``[batch, n, n]``.
        operator: The operator last observed.
    """

    scale: Tensor
    values: Tensor
    vectors: Tensor
    operator: Operator | None = None


@final
@dataclasses.dataclass(frozen=True)
class DenseInverse(Preconditioner[DenseInverseState]):
    """``(B + shift D^2)^-1`` for every shift from one decomposition ``D^-1 B D^-1 = V diag(values) V'``.

    Where the operator knows a factor ``B = F'F``, the singular values of ``F D^-1`` are taken, so that the condition
    number is not squared, and what is rounding of them counts as zero. If ``B`` is indefinite, a shift below
    ``-2 lambda_min`` is raised to it.

    Attributes:
        scaling: ``"none"``: ``D = I``; ``"columns"``: ``d_i = sqrt(B_ii)``; ``"more"``: the largest ``sqrt(B_ii)``
            observed so far (More 1978). Variables without curvature get ``d_i = 1``.
    """

    scaling: Scaling = "none"

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the name of the scaling."""
        if self.scaling not in ("none", "columns", "more"):
            raise BadInputError(f"scaling must be 'none', 'columns' or 'more', not {self.scaling!r}")

    @property
    def traits(self) -> Traits:
        """Exact, so linear and symmetric; shifts are accepted."""
        return Traits(shiftable=True)

    def init(self, like: Tensor) -> DenseInverseState:
        """Start as the identity."""
        batch, n = like.shape
        eye = torch.eye(n, dtype=like.dtype, device=like.device)
        scale = torch.zeros_like(like) if self.scaling == "more" else torch.ones_like(like)
        return DenseInverseState(scale, torch.ones_like(like), eye.repeat(batch, 1, 1))

    def observe(self, state: DenseInverseState, evidence: Evidence) -> None:
        """Keep the operator."""
        state.operator = evidence.operator

    def refresh(self, state: DenseInverseState) -> Health:
        """Decompose the operator last observed; a matrix that is not finite changes nothing."""
        if state.operator is None:
            return Health()
        factor = state.operator.factor()
        n = state.values.shape[1]
        if factor is None:
            eye = torch.eye(n, dtype=state.values.dtype, device=state.values.device)
            matrix = state.operator.matvec(eye)
            matrix = (matrix + matrix.mT) / 2
            lengths = matrix.diagonal().clamp(min=0).sqrt()
        else:
            matrix, lengths = factor, torch.linalg.vector_norm(factor, dim=0)
        if not bool(torch.isfinite(matrix).all()):
            return Health(len(state.values), "the matrix is not finite")
        self._rescale(state, lengths)
        d = _positive(state.scale)[0]
        if factor is None:
            values, vectors, failed = safe_eigh((matrix / d / d[:, None])[None])
            values, vectors = values[0], vectors[0]
            smallest = n * torch.finfo(values.dtype).eps * values.abs().max()
            values = torch.where(values.abs() <= smallest, smallest, values)
            if bool(failed):
                return Health(len(state.values), "the eigendecomposition failed")
        else:
            values, vectors = _singular(factor / d)
        state.values.copy_(values.expand_as(state.values))
        state.vectors.copy_(vectors.expand_as(state.vectors))
        return Health()

    def apply(self, state: DenseInverseState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``(B + shift D^2)^-1 v``, on the null space of ``D^-1 (B + shift D^2) D^-1`` that of the identity."""
        least = state.values.amin(1, keepdim=True)
        total = state.values + torch.clamp(-2 * least, min=shift)
        total = torch.where(total > 0, total, 1.0)
        d = _positive(state.scale)
        coefficients = (state.vectors.mT @ (v / d)[..., None])[..., 0] / total
        return (state.vectors @ coefficients[..., None])[..., 0] / d

    def metric(self, state: DenseInverseState, v: Tensor) -> Tensor:
        """Return ``D^2 v``."""
        return _positive(state.scale).square() * v

    def _rescale(self, state: DenseInverseState, lengths: Tensor) -> None:
        if self.scaling == "columns":
            state.scale.copy_(lengths.expand_as(state.scale))
        elif self.scaling == "more":
            torch.maximum(state.scale, lengths.expand_as(state.scale), out=state.scale)


def _positive(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, 1.0)


def _singular(factor: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared singular values, ascending, zero where they are rounding, and right singular vectors."""
    m, n = factor.shape
    triangle = torch.linalg.qr(factor, mode="r").R if m > n else factor
    _, singular, rows = torch.linalg.svd(triangle, full_matrices=True)
    values = singular.new_zeros(n)
    values[: len(singular)] = singular.square()
    tiny = (max(m, n) * torch.finfo(values.dtype).eps) ** 2 * values.max()
    return torch.where(values > tiny, values, 0.0).flip(0), rows.mH.flip(1)
