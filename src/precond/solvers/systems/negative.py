"""Negative definite systems: what solves ``-A x = -b`` with parts that want a positive definite matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import scipy.sparse
from torch import Tensor

from precond.core import (
    Evidence,
    Health,
    Iteration,
    Kernel,
    Look,
    Map,
    Need,
    Operator,
    OperatorTraits,
    Preconditioner,
    Progress,
    Traits,
)


class NegativeOperator(Operator):
    """``-A`` for a symmetric ``A``; whether it is definite is left open.

    Args:
        inner: The operator ``A``.
    """

    def __init__(self, inner: Operator) -> None:
        self.inner = inner
        self.shape, self.dtype, self.device = inner.shape, inner.dtype, inner.device
        self.traits = OperatorTraits(symmetric=inner.traits.symmetric)
        self._entries: scipy.sparse.csr_array | None = None

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``-A x`` for each row of ``x``."""
        return self.inner.matvec(x).neg_()

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the entries of ``-A``; made once, and only when asked for."""
        matrix = self.inner.entries()
        if self._entries is None and matrix is not None:
            self._entries = -matrix
        return self._entries

    @property
    def has_entries(self) -> bool:
        """Whether the operator has entries."""
        return self.inner.has_entries

    def diagonal(self) -> Tensor | None:
        """Return the diagonal of ``-A``."""
        diagonal = self.inner.diagonal()
        return None if diagonal is None else -diagonal


_TRAITS = ("needs", "preconditioned", "block", "row_by_row", "symmetric_preconditioner", "fixed_preconditioner")


class _OfNegative(Iteration):
    """An iteration that solves ``-A x = -b``.

    Args:
        inner: The iteration, for positive definite matrices.
    """

    def __init__(self, inner: Iteration) -> None:
        self.inner = inner
        for trait in _TRAITS:  # of a class elsewhere, here those of the inner iteration
            setattr(self, trait, getattr(inner, trait))
        vars(self)["symmetric_operator"] = True

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Iterate with ``-A`` and ``-b``, whose residuals are as large."""
        return self.inner.iterate(NegativeOperator(operator), -b, precondition, x0)

    def ahead(
        self, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Iterate with ``-A`` and ``-b``, by compiled loops where the iteration has some."""
        matrix = None if kernel.matrix is None else (*kernel.matrix[:-1], -kernel.matrix[-1])
        product = kernel.product
        opposite = None if product is None else lambda v: -product(v)
        negative = dataclasses.replace(kernel, matrix=matrix, product=opposite)
        return self.inner.ahead(negative, look, NegativeOperator(operator), -b, precondition, x0)


class _PartOfNegative(Preconditioner[Any]):
    """A preconditioner that is fed with ``-A``.

    Args:
        inner: The preconditioner.
    """

    def __init__(self, inner: Preconditioner[Any]) -> None:
        self.inner = inner

    @property
    def needs(self) -> Need:
        """What the part needs."""
        return self.inner.needs

    @property
    def traits(self) -> Traits:
        """What kind of map the part is."""
        return self.inner.traits

    @property
    def refreshes(self) -> bool:
        """Whether there is something to set up."""
        return self.inner.refreshes

    def init(self, like: Tensor) -> Any:
        """Return the part's state."""
        return self.inner.init(like)

    def observe(self, state: Any, evidence: Evidence) -> None:
        """Show the part ``-A``."""
        operator = None if evidence.operator is None else NegativeOperator(evidence.operator)
        self.inner.observe(state, dataclasses.replace(evidence, operator=operator))

    def refresh(self, state: Any) -> Health:
        """Set the part up."""
        return self.inner.refresh(state)

    def apply(self, state: Any, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Apply the part."""
        return self.inner.apply(state, v, shift=shift)

    def compiled(self, state: Any) -> tuple[Any, ...] | None:
        """Return the part's arrays."""
        return self.inner.compiled(state)


def of_negative(iteration: Iteration, part: Preconditioner[Any]) -> tuple[Iteration, Preconditioner[Any]]:
    """Return an iteration and a preconditioner for ``A x = b`` that work on ``-A x = -b``.

    Args:
        iteration: For positive definite matrices.
        part: Of positive definite matrices, symmetric.

    Returns:
        What a driver runs; neither is a part.
    """
    return _OfNegative(iteration), _PartOfNegative(part)
