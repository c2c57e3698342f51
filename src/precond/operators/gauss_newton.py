"""The Gauss-Newton approximation of the Hessian of a sum of squares."""

from __future__ import annotations

from torch import Tensor

from precond.core import Operator, OperatorTraits


class GaussNewton(Operator):
    """``J'J``, the Hessian of ``||r||^2 / 2`` without the curvature of the residuals.

    Args:
        jacobian: ``J``, shape ``[m, n]``; it is not copied.
    """

    def __init__(self, jacobian: Tensor) -> None:
        n = jacobian.shape[1]
        self.shape = (n, n)
        self.dtype, self.device = jacobian.dtype, jacobian.device
        self.traits = OperatorTraits(symmetric=True)
        self._jacobian = jacobian

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``J'J x`` for each row of ``x``."""
        return (x @ self._jacobian.mT) @ self._jacobian

    def diagonal(self) -> Tensor:
        """Return the squared norms of the columns of ``J``."""
        return self._jacobian.square().sum(0)

    def factor(self) -> Tensor:
        """Return ``J``."""
        return self._jacobian
