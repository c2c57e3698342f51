"""The constraint preconditioner of a Newton system: its Hessian approximated, its constraints kept."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Evidence, Health, Need, Operator, Preconditioner, Saddle, Scope, Traits
from precond.core.materialize import LIMIT, fits, materialize, sparse_entries
from precond.operators.near import near
from precond.preconditioners.shifts import refuse_shift
from precond.preconditioners.symmetric import symmetric_operator
from precond.programs.newton import DenseNewton, Newton, Solver, SparseNewton
from precond.programs.projected import Constraints
from precond.programs.regularized import Regularizer

SIDE = 6000
"""Side up to which a dense approximation is factorized."""
PROBES = 16
FIRST = 3e-4
"""Three times the first shift that is tried."""


@dataclasses.dataclass
class ConstraintState:
    """State of `ConstraintPreconditioner`; what is known of the system is one thing for all right-hand sides.

    Attributes:
        operator: The operator seen last.
        solver: What `refresh` made of it; ``None`` stands for the identity.
        shift: Multiple of the identity that was added to the approximate Hessian, beside the operator's own.
        delta: What the second block was shifted by, beside the operator's own.
        regularizer: Finds both, and remembers them.
    """

    operator: Operator | None = None
    solver: Solver | _Diagonal | None = None
    shift: float = 0.0
    delta: float = 0.0
    regularizer: Regularizer = dataclasses.field(default_factory=lambda: Regularizer(FIRST))


@final
@dataclasses.dataclass(frozen=True)
class ConstraintPreconditioner(Preconditioner[ConstraintState]):
    """``[[B~ + t I, J'], [J, -delta I]]^-1`` for `KKT` operators ``[[B, J'], [J, -delta I]]``, with ``B~`` near ``B``.

    Symmetric and indefinite, so it goes with GMRES. Of the preconditioned matrix ``2 m`` eigenvalues are 1, and the
    others are those of ``(Z'B~Z)^-1 Z'BZ`` with ``Z`` the null space of ``J`` (C. Keller, N. I. M. Gould, A. J. Wathen,
    *Constraint preconditioning for indefinite linear systems*, 2000).

    ``B~`` is the sparse matrix itself where the entries of both blocks are known; up to a side of 6000 a matrix from a
    random sketch, see `precond.operators.near.near`; beyond that a diagonal, from products with random signs. ``t`` is
    the first of 0, 1e-4, 8e-4, ... (later from a third of the last one on) that makes the factorized matrix positive
    definite on the null space of ``J``. Any other symmetric operator is taken for a ``B`` without constraints.

    Attributes:
        level: How often the effort of the sketch is doubled.
        seed: Its seed.
    """

    level: int = 0
    seed: int = 0

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL

    @property
    def traits(self) -> Traits:
        """Symmetric, not definite."""
        return Traits(definite=False)

    def init(self, like: Tensor) -> ConstraintState:
        """Start as the identity."""
        return ConstraintState()

    def observe(self, state: ConstraintState, evidence: Evidence) -> None:
        """Take the operator; refuse one that is known not to be symmetric."""
        state.operator = symmetric_operator(
            evidence,
            "a constraint preconditioner needs a symmetric operator, precond.operators.KKT: use preconditioner="
            "'ilu0' with gmres",
        )

    def refresh(self, state: ConstraintState) -> Health:
        """Approximate and factorize; on failure the last factors are kept."""
        if state.operator is None:
            return Health()
        saddle = state.operator.saddle()
        blocks = _Blocks(state.operator, None, 0.0, 0.0) if saddle is None else _Blocks.of(saddle)
        own = blocks.delta
        if state.operator.shape[0] > SIDE and not blocks.sparse:
            solver: Solver | _Diagonal | None = blocks.diagonal()
        else:
            solver = state.regularizer.factorize(_Regularized(blocks.newton(self.level, self.seed), own))
        if solver is None:
            return Health(1, "constraint preconditioner: the matrix is not finite, or its constraints are dependent")
        state.solver, state.shift, state.delta = solver, solver.shift, max(0.0, solver.delta - own)
        return Health(detail=f"shift {state.shift:g}" if state.shift else "")

    def apply(self, state: ConstraintState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``P v``."""
        refuse_shift(self, shift)
        solver = state.solver
        return v.clone() if solver is None else torch.stack([solver.solve(row) for row in v]) if len(v) else v.clone()


@dataclasses.dataclass(frozen=True)
class _Regularized(Newton):
    """A system whose second block has a shift of its own."""

    inside: Newton
    own: float

    @property
    def finite(self) -> bool:
        """Whether all entries are finite."""
        return self.inside.finite

    def attempt(self, shift: float, delta: float) -> Solver | None:
        """Factorize with more."""
        return self.inside.attempt(shift, self.own + delta)


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """The blocks of the system; no Jacobian where there are no constraints."""

    hessian: Operator
    jacobian: Operator | None
    shift: float
    delta: float

    @classmethod
    def of(cls, saddle: Saddle) -> _Blocks:
        return cls(saddle.hessian, saddle.jacobian if saddle.jacobian.shape[0] else None, saddle.shift, saddle.delta)

    @property
    def sparse(self) -> bool:
        """Whether all entries are known, and few."""
        jacobian = self.jacobian
        return sparse_entries(self.hessian) is not None and (jacobian is None or sparse_entries(jacobian) is not None)

    def newton(self, level: int, seed: int) -> Newton:
        """Return the blocks with the Hessian's entries, or a matrix near them."""
        n, like = self.hessian.shape[0], torch.empty(0, dtype=self.hessian.dtype, device=self.hessian.device)
        h, g = sparse_entries(self.hessian), None if self.jacobian is None else sparse_entries(self.jacobian)
        if h is not None and self.sparse:
            rows = scipy.sparse.csr_array(np.zeros((0, n))) if g is None else scipy.sparse.csr_array(g)
            diagonal = torch.full((n,), self.shift, dtype=like.dtype, device=like.device)
            return SparseNewton(scipy.sparse.csr_array(h), rows, diagonal)
        matrix = near(self.hessian, level, seed)
        matrix.diagonal().add_(self.shift)
        return DenseNewton(matrix, like.new_zeros(0, n) if self.jacobian is None else materialize(self.jacobian))

    def diagonal(self) -> _Diagonal | None:
        """Return factors with a diagonal Hessian; ``None`` where the Jacobian's entries would be too many."""
        n, rows = self.hessian.shape[0], None if self.jacobian is None else sparse_entries(self.jacobian)
        if rows is None and self.jacobian is not None and not fits(self.jacobian, LIMIT // 4):
            return None
        drawn = torch.randint(0, 2, (PROBES, n), generator=torch.Generator().manual_seed(0)) * 2 - 1
        signs = drawn.to(self.hessian.device, self.hessian.dtype)
        found = (signs * self.hessian.matvec(signs)).mean(0) + self.shift
        level = float(found.abs().mean())
        diagonal = found.abs().clamp(min=1e-3 * level if level > 0 else 1.0)
        dense = signs.new_zeros(0, n) if self.jacobian is None else materialize(self.jacobian) if rows is None else rows
        constraints = Constraints(dense, diagonal, self.delta)
        return _Diagonal(constraints) if constraints.usable and bool(torch.isfinite(diagonal).all()) else None


@dataclasses.dataclass(frozen=True)
class _Diagonal:
    """The preconditioner with a diagonal ``B~``, and without shifts of its own."""

    constraints: Constraints
    shift: float = 0.0
    delta: float = 0.0

    def solve(self, b: Tensor) -> Tensor:
        """Return the solution for ``[n + m]``."""
        a, c = b.split([self.constraints.n, self.constraints.m])
        return torch.cat(self.constraints.solve(a, c))
