"""A Chebyshev polynomial of the matrix."""

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
from precond.math.krylov.lanczos import lanczos
from precond.preconditioners.shifts import refuse_shift
from precond.preconditioners.symmetric import symmetric_operator

_margin = 1.1


@dataclasses.dataclass
class ChebyshevPolynomialState:
    """State of `ChebyshevPolynomial`; what is known of the matrix is one thing for all right-hand sides.

    Attributes:
        operator: The operator seen last.
        bounds: ``(a, b)``, the interval on which the polynomial is small; ``None`` before `refresh`.
    """

    operator: Operator | None = None
    bounds: tuple[float, float] | None = None


@final
@dataclasses.dataclass(frozen=True)
class ChebyshevPolynomial(Preconditioner[ChebyshevPolynomialState]):
    """``P = p(A)`` with ``1 - t p(t) = T_k((theta - t) / delta) / T_k(theta / delta)``, for ``A`` positive definite.

    ``p`` has degree ``k - 1`` and comes nearest to ``1 / t`` on ``[a, b]``; ``theta = (a + b) / 2``,
    ``delta = (b - a) / 2``. Applied by the Chebyshev iteration, ``k - 1`` products and no inner products::

        x_1 = v / theta,   d_1 = x_1,   rho_1 = delta / theta
        rho_{j+1} = 1 / (2 theta / delta - rho_j)
        d_{j+1} = rho_{j+1} (rho_j d_j + (2 / delta) (v - A x_j)),   x_{j+1} = x_j + d_{j+1}

    Positive definite as long as no eigenvalue exceeds ``b``, which is 1.1 times what ten steps of the Lanczos process
    bound them by; eigenvalues below ``a`` are left for the iteration outside. (O. G. Johnson, C. A. Micchelli, G. Paul,
    *Polynomial preconditioners for conjugate gradient calculations*, 1983.)

    Attributes:
        degree: ``k``, the products of one iteration of conjugate gradients with it.
        ratio: ``b / a``.
        seed: Seed of the vector that the Lanczos process starts from.
    """

    degree: int = 8
    ratio: float = 30.0
    seed: int = 0

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.degree < 1 or not self.ratio > 1:
            raise BadInputError(
                f"chebyshev-polynomial needs degree >= 1 and ratio > 1, not {self.degree} and {self.ratio}"
            )

    @property
    def traits(self) -> Traits:
        """Symmetric, and positive definite for a positive definite matrix."""
        return Traits()

    def init(self, like: Tensor) -> ChebyshevPolynomialState:
        """Start as the identity."""
        return ChebyshevPolynomialState()

    def observe(self, state: ChebyshevPolynomialState, evidence: Evidence) -> None:
        """Take the operator; refuse one that is known not to be symmetric."""
        state.operator = symmetric_operator(
            evidence,
            "chebyshev-polynomial needs a symmetric positive definite matrix: use 'ilu0' or 'jacobi' with gmres",
        )

    def refresh(self, state: ChebyshevPolynomialState) -> Health:
        """Bound the spectrum; where no bound is positive and finite the last one is kept."""
        operator = state.operator
        if operator is None:
            return Health()
        generator = torch.Generator().manual_seed(self.seed)
        start = torch.randn(1, operator.shape[0], generator=generator, dtype=torch.float64)
        found = lanczos(operator.matvec, start.to(operator.device, operator.dtype), 10)
        if not bool(torch.isfinite(found.diagonal).all() & torch.isfinite(found.beside).all()):
            return Health(1, "chebyshev-polynomial: the matrix is not finite; the last bounds are kept")
        values, vectors = found.ritz()
        bound = _margin * float((values[:, -1] + found.last * vectors[:, -1, -1].abs()).max())
        if not (bound > 0 and math.isfinite(bound)):
            return Health(1, "chebyshev-polynomial: no eigenvalue is positive; the last bounds are kept")
        state.bounds = (bound / self.ratio, bound)
        return Health(detail=f"chebyshev-polynomial: on [{state.bounds[0]:.2e}, {bound:.2e}]")

    def apply(self, state: ChebyshevPolynomialState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``p(A) v``."""
        refuse_shift(self, shift)
        if state.bounds is None or state.operator is None:
            return v.clone()
        low, high = state.bounds
        theta, delta = (high + low) / 2, (high - low) / 2
        x = v / theta
        d, rho = x, delta / theta
        for _ in range(self.degree - 1):
            after = 1 / (2 * theta / delta - rho)
            d = after * (rho * d + (2 / delta) * (v - state.operator.matvec(x)))
            x, rho = x + d, after
        return x
