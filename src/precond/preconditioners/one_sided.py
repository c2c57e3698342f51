"""One Kronecker factor, on the shorter side of each matrix."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Health, Need, Preconditioner, Role, Scope, need, rests_as
from precond.math.factors.root_methods import Eigen, InverseRoot
from precond.math.tensors.modes import add_gram, complete
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.shifts import refuse_shift


@dataclasses.dataclass
class OneSidedState:
    """State of `OneSided`, with ``r`` the shorter side.

    Attributes:
        factor: Second moment of the shorter side, ``[batch, r, r]``.
        root: Its inverse square root as of the last refresh, ``[batch, r, r]``.
    """

    factor: Tensor = rests_as(Role.SYMMETRIC)
    root: Tensor = rests_as(Role.ROOT)


@final
@dataclasses.dataclass(frozen=True)
class OneSided(Preconditioner[OneSidedState]):
    """``V^(-1/2) G`` with ``V`` the second moment ``G G^T`` of the rows, or ``G V^(-1/2)`` of the columns if fewer.

    Square matrices take the right side. Tensors of more than two axes are flattened to ``(first, -1)``; vectors are
    matrices of one column.

    Source: ASGO (arXiv 2503.20762).

    Attributes:
        beta: Decay of the factor; 1 sums.
        root: How to take the inverse square root.
    """

    needs: ClassVar[Need] = Need.GRADIENT
    scope: ClassVar[Scope] = Scope.MATRIX
    beta: float = 0.8
    root: InverseRoot = Eigen()

    def __post_init__(self) -> None:
        """Check the decay."""
        if not 0.0 <= self.beta <= 1.0:
            raise BadInputError(f"beta must be in [0, 1], not {self.beta}")

    @property
    def elementwise(self) -> Diagonal:
        """AdaGrad, or RMSProp where the factor is averaged."""
        return Diagonal(self.beta, debias=False)

    def init(self, like: Tensor) -> OneSidedState:
        """Start with a zero factor and the identity for its root."""
        matrices = _matrices(like)
        side = min(matrices.shape[1:])
        dtype = torch.promote_types(like.dtype, torch.float32)
        factor = torch.zeros(like.shape[0], side, side, dtype=dtype, device=like.device)
        return OneSidedState(factor, torch.eye(side, dtype=dtype, device=like.device).expand_as(factor).clone())

    def observe(self, state: OneSidedState, evidence: Evidence) -> None:
        """Absorb the Gram matrix of the shorter side."""
        gradient = _matrices(need(evidence.gradient, "gradient"))
        new = 1.0 if self.beta == 1.0 else 1.0 - self.beta
        add_gram(
            state.factor, gradient, 0 if _left(gradient) else 1, beta=self.beta, alpha=new, members=evidence.counted
        )

    def refresh(self, state: OneSidedState) -> Health:
        """Take the root again; members that fail keep their last."""
        complete(state.factor)
        new, failed = self.root(state.factor, 2)
        state.root.copy_(torch.where(failed[:, None, None], state.root, new))
        return Health.of(failed, "no inverse root of the factor")

    def apply(self, state: OneSidedState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Multiply the shorter side by the root."""
        refuse_shift(self, shift)
        matrices = _matrices(v).to(state.root.dtype)
        left = _left(matrices)
        return (torch.bmm(state.root, matrices) if left else torch.bmm(matrices, state.root)).reshape(v.shape)


def _matrices(v: Tensor) -> Tensor:
    return v.reshape(v.shape[0], -1, 1) if v.ndim <= 2 else v.flatten(2)


def _left(matrices: Tensor) -> bool:
    return matrices.shape[-2] < matrices.shape[-1]
