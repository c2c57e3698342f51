"""The matrix of the optimality conditions of an equality-constrained problem."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.core import Operator, OperatorTraits, Saddle


class KKT(Operator):
    """``[[B, G'], [G, -delta I]]``: symmetric and indefinite, ``[n + m, n + m]``.

    Args:
        hessian: ``B``, symmetric, ``[n, n]``.
        jacobian: ``G``, ``[m, n]``.
        shift: Multiple of the identity added to ``B``.
        delta: Regularization of the second block.
    """

    def __init__(self, hessian: Operator, jacobian: Operator, *, shift: float = 0.0, delta: float = 0.0) -> None:
        m, n = jacobian.shape
        self.hessian, self.jacobian, self.shift, self.delta = hessian, jacobian, shift, delta
        self.shape = (n + m, n + m)
        self.dtype, self.device = jacobian.dtype, jacobian.device
        self.traits = OperatorTraits(symmetric=True)

    def saddle(self) -> Saddle:
        """Return the blocks."""
        return Saddle(self.hessian, self.jacobian, self.shift, self.delta)

    def matvec(self, x: Tensor) -> Tensor:
        """Return the product with each row ``(u, v)`` of ``x``: ``(B u + shift u + G' v, G u - delta v)``."""
        u, v = x.split([self.hessian.shape[0], self.jacobian.shape[0]], dim=1)
        upper = self.hessian.matvec(u)
        if self.shift:
            upper = upper + self.shift * u
        lower = self.jacobian.matvec(u)
        if self.delta:
            lower = lower - self.delta * v
        return torch.cat([upper + self.jacobian.rmatvec(v), lower], dim=1)


def assemble(hessian: Tensor, jacobian: Tensor, *, shift: float | Tensor = 0.0, delta: float = 0.0) -> Tensor:
    """Return ``[[B + shift, G'], [G, -delta I]]`` as a dense matrix; ``shift`` is a number or a diagonal ``[n]``."""
    m, n = jacobian.shape
    matrix = hessian.new_zeros(n + m, n + m)
    matrix[:n, :n] = hessian
    matrix[n:, :n] = jacobian
    matrix[:n, n:] = jacobian.mT
    matrix.diagonal()[:n] += shift
    matrix.diagonal()[n:] = -delta
    return matrix
