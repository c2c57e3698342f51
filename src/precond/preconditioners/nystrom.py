"""A randomized low-rank approximation of a positive semidefinite matrix, inverted with what is added to it."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Evidence,
    Health,
    Need,
    Operator,
    Preconditioner,
    Scope,
    Traits,
)
from precond.preconditioners.symmetric import symmetric_operator

_first = 10  # rank that the adaptive choice starts with
_tail = 10.0  # multiple of mu that the smallest eigenvalue kept may be


@dataclasses.dataclass
class NystromState:
    """State of `Nystrom`; what is known of the matrix is one thing for all right-hand sides.

    Attributes:
        operator: The operator seen last.
        factors: What `refresh` made of it; ``None`` stands for the identity.
    """

    operator: Operator | None = None
    factors: _LowRank | None = None


@final
@dataclasses.dataclass(frozen=True)
class Nystrom(Preconditioner[NystromState]):
    """Randomized Nystrom preconditioner for ``K + mu I``, ``K`` positive semidefinite, from products alone.

    With ``W`` orthonormal and random, ``K W (W^H K W)^-1 (K W)^H = U diag(lambda) U^H`` is near the best approximation
    of rank ``l``. The preconditioner inverts the approximation on its range, and acts elsewhere as if all eigenvalues
    were the smallest that was found::

        P = U (lambda + mu)^-1 U^H + (lambda_l + mu)^-1 (I - U U^H)

    The system given is the whole ``K + mu I``; its products are taken less ``mu`` times the vector. Computed with a
    shift by rounding, as the paper does for stability. (Z. Frangella, J. A. Tropp, M. Udell, *Randomized Nystrom
    preconditioning*, 2021, arXiv 2110.02820.)

    Without a rank, it is doubled from 10 until ``lambda_l <= 10 mu``, until doubling does not halve ``lambda_l`` any
    more (a flat spectrum has no low rank to find), or to the largest allowed. All products are used again.

    Attributes:
        mu: The multiple of the identity that the system contains.
        rank: ``l``; ``None`` chooses.
        largest: The largest rank that is chosen.
        seed: Seed of ``W``.
    """

    mu: float = 0.0
    rank: int | None = None
    largest: int = 320
    seed: int = 0

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (self.mu >= 0 and math.isfinite(self.mu)):
            raise BadInputError(f"nystrom needs mu >= 0, not {self.mu}")
        if self.largest < 1 or (self.rank is not None and self.rank < 1):
            raise BadInputError("nystrom needs a rank of at least one")

    @property
    def traits(self) -> Traits:
        """Symmetric and positive definite."""
        return Traits(shiftable=True)

    def init(self, like: Tensor) -> NystromState:
        """Start as the identity."""
        return NystromState()

    def observe(self, state: NystromState, evidence: Evidence) -> None:
        """Take the operator; refuse one that is known not to be symmetric."""
        state.operator = symmetric_operator(
            evidence,
            "nystrom needs a symmetric positive definite matrix: use preconditioner='ilu0' or 'jacobi' with gmres",
        )

    def refresh(self, state: NystromState) -> Health:
        """Multiply random vectors and decompose; on failure the last factors are kept."""
        operator = state.operator
        if operator is None:
            return Health()
        n = operator.shape[0]
        limit = min(n, self.largest if self.rank is None else self.rank)
        generator = torch.Generator().manual_seed(self.seed)
        test = torch.zeros(0, n, dtype=operator.dtype, device=operator.device)
        products = test
        rank, factors, why = min(limit, _first) if self.rank is None else limit, None, ""
        while True:
            fresh = _orthonormal(rank - len(test), test, generator)
            test, products = torch.cat([test, fresh]), torch.cat([products, operator.matvec(fresh) - self.mu * fresh])
            found = _decompose(products, test, self.mu)
            if found is None:
                return Health(1, "nystrom: the matrix is not finite or not positive; the last factors are kept")
            flat = factors is not None and float(found.values[-1]) > float(factors.values[-1]) / 2
            factors, why = found, why or ("a flat spectrum" if flat else "")
            if rank >= limit or flat or float(factors.values[-1]) <= _tail * self.mu:
                break
            rank = min(limit, 2 * rank)
        state.factors = factors
        return Health(detail=f"nystrom: rank {rank}{f', {why}' if why else ''}")

    def apply(self, state: NystromState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``P v``, with ``shift`` added to ``mu``."""
        if state.factors is None:
            return v / (1 + shift)
        return state.factors.apply(v, shift)


@dataclasses.dataclass(frozen=True)
class _LowRank:
    """``U diag(values + mu) U^H + (floor + mu) (I - U U^H)``, with ``U`` in rows of ``vectors``, ``[l, n]``."""

    values: Tensor
    vectors: Tensor
    floor: Tensor

    def apply(self, v: Tensor, shift: float) -> Tensor:
        """Return the inverse times each row."""
        within = v @ self.vectors.mH
        rest = v - within @ self.vectors
        rest = rest - (rest @ self.vectors.mH) @ self.vectors
        return (within / (self.values + shift)) @ self.vectors + rest / (self.floor + shift)


def _orthonormal(count: int, beside: Tensor, generator: torch.Generator) -> Tensor:
    """Return random rows, orthonormal and orthogonal to those of ``beside``."""
    shape = (count, beside.shape[1])
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    if beside.is_complex():
        drawn = torch.complex(drawn, torch.randn(shape, generator=generator, dtype=torch.float64))
    rows = drawn.to(beside.device, beside.dtype)
    for _ in range(2):
        rows = rows - (rows @ beside.mH) @ beside
        rows = torch.linalg.qr(rows.mH).Q.mH
    return rows


def _decompose(products: Tensor, test: Tensor, mu: float) -> _LowRank | None:
    """Return the Nystrom approximation with ``mu`` added; ``None`` where there is none."""
    n = products.shape[1]
    size = float(torch.linalg.vector_norm(products))
    if not math.isfinite(size):
        return None
    tiny = n**0.5 * torch.finfo(products.dtype).eps * size
    if size == 0:
        ones = torch.ones_like(products[:, 0].real)
        return _LowRank(mu * ones, test, mu * ones[-1]) if mu > 0 else None
    core = _hermitian(test.conj() @ products.mT) / size
    for _ in range(3):
        stable = products + tiny * test
        shifted = core + (tiny / size) * torch.eye(len(core), dtype=core.dtype, device=core.device)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if not bool(failed):
            break
        least = float(torch.linalg.eigvalsh(core)[0]) * size  # negative by more than rounding: shift it away
        tiny = 2 * max(tiny, -least)
    else:
        return None
    whitened = torch.linalg.solve_triangular(factor.conj(), stable / size**0.5, upper=False)
    _, singular, vectors = torch.linalg.svd(whitened, full_matrices=False)
    values = (singular.square() - tiny).clamp(min=0)
    least = torch.finfo(values.dtype).eps * values[0]
    if not float(values[0]) > 0:
        return None
    values = values.clamp(min=float(least))
    return _LowRank(values + mu, vectors, values[-1] + mu)


def _hermitian(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mH) / 2
