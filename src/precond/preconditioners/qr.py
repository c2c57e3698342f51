"""The orthogonal factors of a dense matrix, for least squares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from precond.core import Evidence, Health, IncompatibleError, Need, Operator, Preconditioner, Scope, Traits
from precond.math.orthogonal_factors import OrthogonalFactors, orthogonal_factors


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
    """``P = (A^H A)^+`` for the normal equations of a dense ``A`` of any shape, by orthogonal factors of ``A`` itself.

    For one problem this is a direct solver, corrected by the iteration: ``guess`` is the solution ``A^+ b``, which of
    several is the one of least norm. Factors are LAPACK's, on the processor, in double precision whatever that of
    ``A``: QR where the columns are independent, a complete orthogonal decomposition otherwise (A. Bjorck, *Numerical
    methods for least squares problems*, 1996, section 2.7).
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
        """Take the Gram operator of a least-squares problem with a dense matrix."""
        if _dense(evidence.operator) is None:
            raise IncompatibleError(
                "qr factors the dense matrix of a least-squares problem: use precond.lstsq with a dense matrix, or "
                "preconditioner='sketch-qr' for a sparse one"
            )
        state.operator = evidence.operator

    def refresh(self, state: QRState) -> Health:
        """Factor the matrix."""
        matrix = _dense(state.operator)
        if matrix is None:
            return Health()
        given = matrix.resolve_conj().numpy(force=True)
        wide = given.astype(np.result_type(given.dtype, np.float64), copy=False)
        state.factors = orthogonal_factors(wide, None if wide is given else given.dtype)
        rank, least = state.factors.rank, min(matrix.shape)
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


def _dense(gram: Operator | None) -> Tensor | None:
    """Return ``A`` of a Gram operator, where it is known and dense."""
    root = None if gram is None else gram.root()
    return None if root is None else root.dense()


def _by_columns(function: Callable[[Any], Any], v: Tensor) -> Tensor:
    """Return what a function of columns makes of each row of ``v``."""
    found = function(v.resolve_conj().numpy(force=True).T)
    return torch.from_numpy(np.ascontiguousarray(found.T)).to(v.device, v.dtype)
