"""An operator and a preconditioner that charge what they do to an account."""

from __future__ import annotations

from typing import Any

import scipy.sparse
from torch import Tensor

from precond.core import Map, Operator, Preconditioner, Work


class CountedOperator(Operator):
    """The same operator; each product with one vector counts as one matvec.

    Args:
        inner: The operator.
        work: The account to charge.
    """

    def __init__(self, inner: Operator, work: Work) -> None:
        self.inner, self.work = inner, work
        self.shape, self.dtype, self.device, self.traits = inner.shape, inner.dtype, inner.device, inner.traits

    @property
    def has_adjoint(self) -> bool:
        """Whether ``rmatvec`` will work."""
        return self.inner.has_adjoint

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x`` for each row of ``x``."""
        self.work.matvecs += x.shape[0]
        return self.inner.matvec(x)

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A^H y`` for each row of ``y``."""
        self.work.matvecs += y.shape[0]
        return self.inner.rmatvec(y)

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the entries of the operator."""
        return self.inner.entries()

    def diagonal(self) -> Tensor | None:
        """Return the diagonal of the operator."""
        return self.inner.diagonal()

    def frobenius_norm(self) -> float | None:
        """Return the Frobenius norm of the operator."""
        return self.inner.frobenius_norm()

    def double(self) -> Operator:
        """Return the operator in double precision, counted too."""
        double = self.inner.double()
        return self if double is self.inner else CountedOperator(double, self.work)


def counted_apply(preconditioner: Preconditioner[Any], state: Any, work: Work) -> Map:
    """Return ``apply`` with its state bound; each vector counts as one application."""

    def apply(v: Tensor) -> Tensor:
        work.applies += len(v)
        return preconditioner.apply(state, v)

    return apply
