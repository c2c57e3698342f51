"""The constraint preconditioner of a Newton system: its Hessian approximated, its constraints kept."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import scipy.sparse
import torch
from torch import Tensor

from precond.core import Evidence, Health, IncompatibleError, Need, Operator, Preconditioner, Scope, Traits
from precond.core.materialize import LIMIT, fits, materialize
from precond.operators.kkt import KKT
from precond.operators.near import near
from precond.preconditioners.shifts import refuse_shift
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
        if evidence.operator is None or evidence.operator.traits.symmetric is False:
            raise IncompatibleError(
                "a constraint preconditioner needs a symmetric operator, precond.operators.KKT: use preconditioner="
                "'ilu0' with gmres"
            )
        state.operator = evidence.operator

    def refresh(self, state: ConstraintState) -> Health:
        """Approximate and factorize; on failure the last factors are kept."""
        if state.operator is None:
            return Health()
        kkt = state.operator if isinstance(state.operator, KKT) else _unconstrained(state.operator)
        if sum(kkt.jacobian.shape) > SIDE and not _sparse(kkt):
            solver: Solver | _Diagonal | None = _Diagonal.of(kkt)
        else:
            solver = state.regularizer.factorize(_Regularized(self._newton(kkt), kkt.delta))
        if solver is None:
            return Health(1, "constraint preconditioner: the matrix is not finite, or its constraints are dependent")
        state.solver, state.shift, state.delta = solver, solver.shift, max(0.0, solver.delta - kkt.delta)
        return Health(detail=f"shift {state.shift:g}" if state.shift else "")

    def apply(self, state: ConstraintState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``P v``."""
        refuse_shift(self, shift)
        solver = state.solver
        return v.clone() if solver is None else torch.stack([solver.solve(row) for row in v]) if len(v) else v.clone()

    def _newton(self, kkt: KKT) -> Newton:
        n = kkt.hessian.shape[0]
        h, g = kkt.hessian.entries(), kkt.jacobian.entries()
        if h is not None and g is not None:
            diagonal = torch.full((n,), kkt.shift, dtype=kkt.dtype, device=kkt.device)
            return SparseNewton(scipy.sparse.csr_array(h), scipy.sparse.csr_array(g), diagonal)
        matrix = near(kkt.hessian, self.level, self.seed)
        matrix.diagonal().add_(kkt.shift)
        return DenseNewton(matrix, materialize(kkt.jacobian))


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


def _sparse(kkt: KKT) -> bool:
    return kkt.hessian.entries() is not None and kkt.jacobian.entries() is not None


def _unconstrained(operator: Operator) -> KKT:
    from precond.operators.dense import DenseOperator

    nothing = torch.zeros(0, operator.shape[0], dtype=operator.dtype, device=operator.device)
    return KKT(operator, DenseOperator(nothing, symmetric=False))


@dataclasses.dataclass(frozen=True)
class _Diagonal:
    """The preconditioner with a diagonal ``B~``.

    Attributes:
        constraints: Its factors.
        shift: What was added to the diagonal.
        delta: What was added to the second block.
    """

    constraints: Constraints
    shift: float = 0.0
    delta: float = 0.0

    @classmethod
    def of(cls, kkt: KKT) -> _Diagonal | None:
        """Return it for an operator; ``None`` where the Jacobian has no entries and is too large for dense ones."""
        jacobian = kkt.jacobian.entries()
        if jacobian is None and not fits(kkt.jacobian, LIMIT // 4):
            return None
        n = kkt.hessian.shape[0]
        signs = torch.randint(0, 2, (PROBES, n), generator=torch.Generator().manual_seed(0)) * 2 - 1
        rows = signs.to(kkt.device, kkt.dtype)
        found = (rows * kkt.hessian.matvec(rows)).mean(0) + kkt.shift
        level = float(found.abs().mean())
        diagonal = found.abs().clamp(min=1e-3 * level if level > 0 else 1.0)
        constraints = Constraints(materialize(kkt.jacobian) if jacobian is None else jacobian, diagonal, kkt.delta)
        return cls(constraints) if constraints.usable else None

    def solve(self, b: Tensor) -> Tensor:
        """Return the solution for ``[n + m]``."""
        a, c = b.split([self.constraints.n, self.constraints.m])
        return torch.cat(self.constraints.solve(a, c))
