"""The orthogonal factors of a matrix, held densely, for least squares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from precond.core import Evidence, Health, IncompatibleError, Need, Operator, Preconditioner, Scope, Traits
from precond.math.dense.orthogonal_factors import OrthogonalFactors, orthogonal_factors


@dataclasses.dataclass
class QRState:
    """State of `QR`; the identity while empty.

    Attributes:
        operator: The Gram operator seen last.
        factors: Those of its root.
    """

    operator: Operator | None = None
    factors: OrthogonalFactors | None = None


@final
@dataclasses.dataclass(frozen=True)
class QR(Preconditioner[QRState]):
    """``P = (A^H A)^+`` for the normal equations of ``A`` of any shape, by orthogonal factors of ``A`` itself.

    For one problem this is a direct solver, corrected by the iteration: ``guess`` is the solution ``A^+ b``, which of
    several is the one of least norm. Factors are LAPACK's, on the processor, in double precision whatever that of
    ``A``: QR where the columns are independent, a complete orthogonal decomposition otherwise (A. Bjorck, *Numerical
    methods for least squares problems*, 1996, section 2.7). A sparse matrix is written out, with its zeros.
    """

    needs: ClassVar[Need] = Need.OPERATOR | Need.ROOT
    scope: ClassVar[Scope] = Scope.GLOBAL

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite on the range of ``A^H``, and the inverse there; with a shift everywhere."""
        return Traits(shiftable=True, equivalent=True)

    def init(self, like: Tensor) -> QRState:
        """Start as the identity."""
        return QRState()

    def observe(self, state: QRState, evidence: Evidence) -> None:
        """Take the Gram operator of a least-squares problem whose matrix has entries."""
        root = None if evidence.operator is None else evidence.operator.root()
        if root is None or not (root.dense() is not None or root.has_entries):
            raise IncompatibleError(
                "qr factors the matrix of a least-squares problem: use precond.lstsq with a dense or sparse matrix, or "
                "preconditioner='sketch-qr' for one that is known by products"
            )
        state.operator = evidence.operator

    def refresh(self, state: QRState) -> Health:
        """Factor the matrix."""
        given = _written_out(state.operator)
        if given is None:
            return Health()
        wide = given.astype(np.result_type(given.dtype, np.float64), copy=False)
        state.factors = orthogonal_factors(wide, None if wide is given else given.dtype)
        rank, least = state.factors.rank, min(given.shape)
        return Health(detail=f"qr: the rank is {rank} of {least}" if rank < least else "")

    def apply(self, state: QRState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``(A^H A)^+ v`` for each row of ``v``, or ``(A^H A + shift I)^-1 v``."""
        factors = state.factors
        if factors is None:
            return v / (1 + shift)
        return _by_columns(lambda u: factors.inverse_shifted_gram(u, shift) if shift else factors.inverse_gram(u), v)

    def guess(self, state: QRState, b: Tensor) -> Tensor | None:
        """Return ``A^+ b`` for each row of ``b``."""
        return None if state.factors is None else _by_columns(state.factors.solve, b)


def _written_out(gram: Operator | None) -> Any:
    """Return the array ``A`` of a Gram operator, where its entries are known."""
    root = None if gram is None else gram.root()
    if root is None:
        return None
    if (matrix := root.dense()) is not None:
        return matrix.resolve_conj().numpy(force=True)
    entries = root.entries()
    return None if entries is None else entries.toarray()


def _by_columns(function: Callable[[Any], Any], v: Tensor) -> Tensor:
    """Return what a function of columns makes of each row of ``v``."""
    found = function(v.resolve_conj().numpy(force=True).T)
    return torch.from_numpy(np.ascontiguousarray(found.T)).to(v.device, v.dtype)
