"""An operator and a preconditioner that charge what they do to an account."""

from __future__ import annotations

from typing import Any

import scipy.sparse
from torch import Tensor

from precond.core import Embedding, Map, Operator, Preconditioner, Saddle, Work
from precond.math.krylov.vectors import settled


class CountedOperator(Operator):
    """The same operator; each product with one vector counts as one matvec.

    Args:
        inner: The operator.
        work: The account to charge.
    """

    def __init__(self, inner: Operator, work: Work) -> None:
        self.inner, self.work = inner, work
        self.shape, self.dtype, self.device, self.traits = inner.shape, inner.dtype, inner.device, inner.traits
        self.side_by_side = inner.side_by_side

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

    def normal(self, x: Tensor, b: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``A^H (b - A x)`` and ``||b - A x||``, two products for each row."""
        self.work.matvecs += 2 * len(x)
        return self.inner.normal(x, b)

    def dense(self) -> Tensor | None:
        """Return the dense tensor of the operator."""
        return self.inner.dense()

    def approximated(self, size: int, seed: int) -> Tensor | None:
        """Return what the operator knows of its data."""
        return self.inner.approximated(size, seed)

    def sketched(self, embedding: Embedding) -> Tensor:
        """Return ``S A``; products with unit vectors count when only products are known."""
        if self.inner.dense() is None and self.inner.entries() is None:
            self.work.matvecs += self.shape[1]
        return self.inner.sketched(embedding)

    def root(self) -> Operator | None:
        """Return the factor of the operator, counted too."""
        root = self.inner.root()
        return None if root is None else CountedOperator(root, self.work)

    def saddle(self) -> Saddle | None:
        """Return those of the operator; their products are not counted."""
        return self.inner.saddle()

    def factor(self) -> Tensor | None:
        """Return the dense factor of the operator."""
        return self.inner.factor()

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the entries of the operator."""
        return self.inner.entries()

    @property
    def has_entries(self) -> bool:
        """Whether the operator has entries."""
        return self.inner.has_entries

    def compiled(self) -> tuple[Any, ...] | None:
        """Return the arrays of the matrix; what loops do with them does not count here."""
        return self.inner.compiled()

    def diagonal(self) -> Tensor | None:
        """Return the diagonal of the operator."""
        return self.inner.diagonal()

    def column_norms(self) -> Tensor | None:
        """Return the norms of the columns of the operator."""
        return self.inner.column_norms()

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


def counted_identity(work: Work) -> Map:
    """Return what an identity does, without a copy; each vector counts as one application."""

    def apply(v: Tensor) -> Tensor:
        work.applies += len(v)
        return settled(v)

    return apply
