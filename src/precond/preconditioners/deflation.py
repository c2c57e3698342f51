"""A coarse solve on a given subspace beside another preconditioner."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Evidence,
    Health,
    IncompatibleError,
    Need,
    Operator,
    Preconditioner,
    Scope,
    Traits,
)
from precond.preconditioners.symmetric import symmetric_operator


class Subspace(abc.ABC):
    """Where a coarse problem is solved."""

    @abc.abstractmethod
    def basis(self, operator: Operator) -> Tensor:
        """Return spanning vectors in rows, shape ``[k, n]``, for the vectors of an operator."""


@dataclasses.dataclass(frozen=True, eq=False)
class Given(Subspace):
    """A subspace given by its vectors.

    Attributes:
        vectors: Shape ``[n, k]``, in columns.
    """

    vectors: Tensor

    def basis(self, operator: Operator) -> Tensor:
        """Return the vectors in rows, after checking their length."""
        if self.vectors.ndim != 2 or self.vectors.shape[0] != operator.shape[0]:
            raise BadInputError(
                f"the subspace has shape {tuple(self.vectors.shape)}, the matrix {operator.shape}: give [n, k], "
                "vectors in columns"
            )
        return self.vectors.mT.to(operator.device, operator.dtype)


@dataclasses.dataclass(frozen=True)
class Aggregates(Subspace):
    """Vectors that are constant on one of ``count`` consecutive groups of unknowns and zero elsewhere.

    (R. A. Nicolaides, *Deflation of conjugate gradients with applications to boundary value problems*, 1987.)
    """

    count: int = 8

    def basis(self, operator: Operator) -> Tensor:
        """Return the indicators of the groups."""
        n = operator.shape[0]
        groups = torch.arange(n, device=operator.device) * min(self.count, n) // n
        return torch.nn.functional.one_hot(groups).mT.to(operator.dtype)


@dataclasses.dataclass
class DeflationState:
    """State of `Deflation`; what is known of the matrix is one thing for all right-hand sides.

    Attributes:
        inner: The state of the inner preconditioner.
        operator: The operator seen last.
        coarse: ``(W, A W)`` in rows, ``[k, n]``, with ``W^H A W = I``; ``None`` before `refresh`.
    """

    inner: Any
    operator: Operator | None = None
    coarse: _Coarse | None = None


@final
@dataclasses.dataclass(frozen=True)
class Deflation(Preconditioner[DeflationState]):
    """Exact on a subspace, another preconditioner on the rest: ``P = W W^H + (I - W (A W)^H) M (I - (A W) W^H)``.

    ``W`` spans the subspace with ``W^H A W = I``. ``P A`` is the identity on the subspace, so that eigenvalues of
    vectors in it move to one, and no others are made worse than ``M`` left them. ``A W`` is kept: no products beyond
    the ``k`` of the setup. (J. Mandel, *Balancing domain decomposition*, 1993; compared with others in J. M. Tang,
    R. Nabben, C. Vuik, Y. A. Erlangga, *Comparison of two-level preconditioners derived from deflation, domain
    decomposition and multigrid methods*, 2009.)

    Attributes:
        subspace: Where to solve exactly.
        inner: ``M``, for the rest.
    """

    subspace: Subspace
    inner: Preconditioner[Any]

    scope: ClassVar[Scope] = Scope.GLOBAL

    @property
    def needs(self) -> Need:
        """Products, and what the inner part needs."""
        return Need.OPERATOR | self.inner.needs

    @property
    def traits(self) -> Traits:
        """Symmetric and definite if the inner part is."""
        inner = self.inner.traits
        return Traits(inner.linear, inner.symmetric, inner.definite, inner.fixed)

    def init(self, like: Tensor) -> DeflationState:
        """Start as the inner part."""
        return DeflationState(self.inner.init(like))

    def observe(self, state: DeflationState, evidence: Evidence) -> None:
        """Take the operator; refuse one that is known not to be symmetric."""
        state.operator = symmetric_operator(
            evidence,
            "deflation needs a symmetric positive definite matrix: use method='gcrodr' otherwise",
        )
        self.inner.observe(state.inner, evidence)

    def refresh(self, state: DeflationState) -> Health:
        """Set the inner part up and multiply the subspace; dependent vectors are left out."""
        health = self.inner.refresh(state.inner)
        if state.operator is None:
            return health
        w = self.subspace.basis(state.operator)
        w = torch.linalg.qr(w.mH).Q.mH
        aw = state.operator.matvec(w)
        core = w.conj() @ aw.mT
        if not bool(torch.isfinite(core).all()):
            return health + Health(1, "deflation: the matrix is not finite; the last subspace is kept")
        values, vectors = torch.linalg.eigh((core + core.mH) / 2)
        kept = values > len(values) * torch.finfo(values.dtype).eps * values.abs().max()
        if not bool(kept.any()):
            return health + Health(1, "deflation: the matrix is not positive on the subspace; the last one is kept")
        mix = (vectors[:, kept] / values[kept].sqrt()).mT
        state.coarse = _Coarse(mix @ w, mix @ aw)
        left_out = int((~kept).sum())
        return health + (Health(detail=f"deflation: {left_out} directions left out") if left_out else Health())

    def apply(self, state: DeflationState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``P v``."""
        if shift != 0:
            raise IncompatibleError("deflation accepts no shift: use jacobi or identity")
        if state.coarse is None:
            return self.inner.apply(state.inner, v)
        w, aw = state.coarse.w, state.coarse.aw
        within = v @ w.mH
        z = self.inner.apply(state.inner, v - within @ aw)
        return (within - z @ aw.mH) @ w + z


@dataclasses.dataclass(frozen=True)
class _Coarse:
    """``W`` and ``A W`` in rows."""

    w: Tensor
    aw: Tensor
