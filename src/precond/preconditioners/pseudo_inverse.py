"""The pseudoinverse of a small matrix: what is left when a matrix is singular."""

from __future__ import annotations

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
from precond.core.materialize import materialize, sparse_entries
from precond.preconditioners.shifts import refuse_shift


@dataclasses.dataclass
class PseudoInverseState:
    """State of `PseudoInverse`; the identity while empty.

    Attributes:
        operator: The operator seen last.
        inverse: The matrix ``P``, behind a function so that it is not taken for a tensor with a batch.
    """

    operator: Operator | None = None
    inverse: Any = None


@final
@dataclasses.dataclass(frozen=True)
class PseudoInverse(Preconditioner[PseudoInverseState]):
    """``P = T (A T)^+`` by a dense singular value decomposition, with ``T`` that scales columns to unit norm.

    Then ``A P`` is the orthogonal projection on the range of ``A``: one iteration solves a consistent system with any
    matrix, and leaves the least residual of an inconsistent one.

    Attributes:
        cut: Singular values below so many times the largest count as zero; ``None``: size times rounding.
        limit: Largest number of unknowns, as the decomposition costs its cube.
    """

    cut: float | None = None
    limit: int = 4000

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.cut is not None and not 0 <= self.cut < 1:
            raise BadInputError(f"pseudo-inverse needs 0 <= cut < 1, not {self.cut}")

    @property
    def traits(self) -> Traits:
        """Linear and fixed."""
        return Traits(symmetric=False, definite=False)

    def init(self, like: Tensor) -> PseudoInverseState:
        """Start as the identity."""
        return PseudoInverseState()

    def observe(self, state: PseudoInverseState, evidence: Evidence) -> None:
        """Take the operator; refuse a large one."""
        operator = evidence.operator
        if operator is None or operator.shape[0] > self.limit:
            size = "no matrix" if operator is None else f"{operator.shape[0]} unknowns"
            raise IncompatibleError(
                f"pseudo-inverse decomposes a dense matrix of at most {self.limit} unknowns, this has {size}: use "
                "preconditioner='lu' or 'ilut', or raise `limit`"
            )
        state.operator = operator

    def refresh(self, state: PseudoInverseState) -> Health:
        """Decompose the matrix."""
        if state.operator is None:
            return Health()
        entries = sparse_entries(state.operator)
        matrix = materialize(state.operator) if entries is None else torch.from_numpy(entries.toarray())
        matrix = matrix.to(state.operator.device)
        largest = matrix.abs().amax(dim=0)
        usable = torch.where(largest > 0, largest, 1)
        scale = 1 / (usable * torch.linalg.vector_norm(matrix / usable, dim=0).clamp(min=1))
        try:
            u, values, vh = torch.linalg.svd(matrix * scale, full_matrices=False)
        except RuntimeError as error:
            return Health(failures=1, detail=f"pseudo-inverse: {str(error).splitlines()[0]}; the last one is kept")
        if not bool(torch.isfinite(values).all()):
            return Health(failures=1, detail="pseudo-inverse: the matrix overflows; the last one is kept")
        cut = len(values) * torch.finfo(values.dtype).eps if self.cut is None else self.cut
        kept = values > cut * values[0]
        inverse = scale.unsqueeze(1) * ((vh.mH * torch.where(kept, 1 / values, 0)) @ u.mH)
        state.inverse = lambda: inverse
        rank = int(kept.sum())
        return Health(detail=f"pseudo-inverse: the rank is {rank} of {len(values)}" if rank < len(values) else "")

    def apply(self, state: PseudoInverseState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``P v`` for each row of ``v``."""
        refuse_shift(self, shift)
        return v if state.inverse is None else v @ state.inverse().mT

    def apply_adjoint(self, state: PseudoInverseState, v: Tensor) -> Tensor:
        """Return ``P^H v`` for each row of ``v``."""
        return v if state.inverse is None else v @ state.inverse().conj()
