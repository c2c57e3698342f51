"""Polynomials of a matrix from its elementary symmetric polynomials, which need no bounds of the spectrum."""

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
from precond.preconditioners.shifts import refuse_shift
from precond.preconditioners.symmetric import symmetric_operator


@dataclasses.dataclass
class SymmetricPolynomialState:
    """State of `SymmetricPolynomial`; what is known of the matrix is one thing for all right-hand sides.

    Attributes:
        operator: The operator seen last.
        scale: The mean eigenvalue, by which the matrix is divided.
        sigma: ``sigma_0 .. sigma_tau`` of the scaled matrix, divided by ``C(n, t)``; empty before `refresh`.
    """

    operator: Operator | None = None
    scale: float = 1.0
    sigma: tuple[float, ...] = ()


@final
@dataclasses.dataclass(frozen=True)
class SymmetricPolynomial(Preconditioner[SymmetricPolynomialState]):
    """``P_tau = sigma_tau I - B P_{tau-1}``, ``P_0 = I``, which cuts gaps between the largest eigenvalues of ``B``.

    ``sigma_t`` is the elementary symmetric polynomial of the eigenvalues, from the traces ``p_i = tr(B^i)`` by Newton's
    identities ``t sigma_t = sum_{i=1}^t (-1)^(i-1) sigma_{t-i} p_i``. On an eigenvector with eigenvalue ``lambda_j``,
    ``P_tau`` is ``sigma_tau`` of the other eigenvalues, hence positive, and ``B P_tau`` has the condition number
    ``(lambda_1 / lambda_n) sigma_tau(without lambda_1) / sigma_tau(without lambda_n)``. ``P_1 = tr(B) I - B``, and
    ``P_{n-1}`` is a multiple of the inverse. Small eigenvalues gain nothing. (N. Doikov, A. Rodomanov, *Polynomial
    preconditioning for gradient methods*, 2023, arXiv 2301.13194.)

    Applied with ``tau`` products to ``B`` divided by its mean eigenvalue, and to ``sigma_t`` divided by ``C(n, t)``,
    which keeps numbers near one. Alternating sums lose digits as ``tau`` grows; the paper has ``tau`` up to 5.

    Attributes:
        degree: ``tau``.
        probes: Random signs to estimate traces with (Hutchinson); matrices of no more columns than that are done
            exactly, by products with the unit vectors.
        seed: Seed of the signs.
    """

    degree: int = 2
    probes: int = 200
    seed: int = 0

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.degree < 0 or self.probes < 1:
            raise BadInputError(f"degree >= 0 and probes >= 1 are needed, not {self.degree} and {self.probes}")

    @property
    def traits(self) -> Traits:
        """Symmetric, and positive definite for a positive definite matrix."""
        return Traits()

    def init(self, like: Tensor) -> SymmetricPolynomialState:
        """Start as the identity."""
        return SymmetricPolynomialState()

    def observe(self, state: SymmetricPolynomialState, evidence: Evidence) -> None:
        """Take the operator; refuse one that is known not to be symmetric."""
        state.operator = symmetric_operator(
            evidence,
            "symmetric-polynomial needs a symmetric positive definite matrix: use gmres with 'ilu0'",
        )

    def refresh(self, state: SymmetricPolynomialState) -> Health:
        """Compute the traces; where the polynomials are not positive the degree is lowered, and `Health` says so."""
        operator = state.operator
        if operator is None:
            return Health()
        n = operator.shape[0]
        degree = min(self.degree, n - 1)
        traces = _traces(operator, degree, self.probes, self.seed)
        if not all(math.isfinite(trace) for trace in traces) or (degree > 0 and not traces[0] > 0):
            return Health(1, "symmetric-polynomial: the traces are not positive and finite; the last ones are kept")
        scale = traces[0] / n if degree > 0 else 1.0
        powers = [trace / scale**i for i, trace in enumerate(traces, 1)]
        if not all(math.isfinite(power) for power in powers):
            return Health(1, "symmetric-polynomial: the traces overflow; the last ones are kept")
        sigma = [1.0]
        for t in range(1, degree + 1):
            total = sum((-1) ** (i - 1) * sigma[t - i] * _falling(n, t, i) * powers[i - 1] for i in range(1, t + 1)) / t
            if not total > 1e-8:
                break
            sigma.append(total)
        state.scale, state.sigma = scale, tuple(sigma)
        if len(sigma) == degree + 1:
            return Health()
        return Health(
            detail=f"symmetric-polynomial: degree {len(sigma) - 1}, beyond it the traces are not accurate enough"
        )

    def apply(self, state: SymmetricPolynomialState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``P_tau v``, divided by the number of its terms ``C(n, tau)``."""
        refuse_shift(self, shift)
        operator, w = state.operator, v.clone()
        if operator is None:
            return w
        n = operator.shape[0]
        for t in range(1, len(state.sigma)):
            w = state.sigma[t] * v - (t / (n - t + 1) / state.scale) * operator.matvec(w)
        return w


def _falling(n: int, t: int, i: int) -> float:
    """Return ``C(n, t - i) / C(n, t)``, which is at most one for small ``t``."""
    return math.prod((t - k) / (n - t + k + 1) for k in range(i))


def _traces(operator: Operator, degree: int, probes: int, seed: int) -> list[float]:
    """Return ``tr(B) .. tr(B^degree)``, estimated where there are more columns than probes."""
    n = operator.shape[0]
    if n <= probes:
        v = torch.eye(n, dtype=operator.dtype, device=operator.device)
    else:
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (probes, n), generator=generator).mul_(2).sub_(1)
        v = signs.to(operator.device, operator.dtype)
    weight, traces, before = n / v.abs().square().sum(), list[float](), v
    if n <= probes:
        weight = torch.ones_like(weight)
    for _ in range((degree + 1) // 2):
        after = operator.matvec(before)
        traces += [float(weight * (before.conj() * after).sum().real), float(weight * after.abs().square().sum())]
        before = after
    return traces[:degree]
