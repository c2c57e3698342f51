"""Preconditioners that need nothing of a symmetric positive definite matrix but its products."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, LogUniform, Paper
from precond.preconditioners.chebyshev_polynomial import ChebyshevPolynomial
from precond.preconditioners.deflation import Aggregates, Deflation
from precond.preconditioners.jacobi import Jacobi
from precond.preconditioners.nystrom import Nystrom
from precond.preconditioners.symmetric_polynomial import SymmetricPolynomial
from precond.recipes.registry import recipe

_both = frozenset({Kind.LINEAR_SYSTEM, Kind.LEAST_SQUARES})


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=_both,
    family="products",
    paper=Paper(
        title="Randomized Nyström preconditioning",
        authors="Z. Frangella, J. A. Tropp, M. Udell",
        year=2021,
        arxiv="2110.02820",
        venue="SIAM Journal on Matrix Analysis and Applications 44(2)",
    ),
    purpose="Regularized systems K + mu I with a spectrum that decays: kernel matrices, ridge regression.",
    claim="With a rank of about three times the effective dimension the condition number is below 28, whatever K is.",
    example="from precond.preconditioners.nystrom import Nystrom\n"
    "precond.solve(A, b, method='cg', preconditioner=Nystrom(mu=1e-2))",
    space={"mu": LogUniform(1e-8, 1e2)},
)
def nystrom(mu: float = 0.0, rank: int | None = None) -> Nystrom:
    """Return the randomized Nystrom preconditioner.

    ``P^-1 = (lambda_l + mu)^-1 U (Lambda + mu I) U^T + (I - U U^T)`` with ``U Lambda U^T`` the Nystrom approximation of
    ``K`` from ``l`` random vectors.

    Deviations:
        1. Divided by ``lambda_l + mu``, so that it is an approximate inverse, to which a shift can be added.
        2. The adaptive rank also stops where doubling does not halve ``lambda_l``, since a flat spectrum gains nothing.

    Args:
        mu: The multiple of the identity that the matrix contains.
        rank: Number of random vectors; ``None`` chooses.

    Returns:
        The preconditioner.
    """
    return Nystrom(mu=mu, rank=rank)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=_both,
    family="products",
    paper=Paper(
        title="Polynomial preconditioners for conjugate gradient calculations",
        authors="O. G. Johnson, C. A. Micchelli, G. Paul",
        year=1983,
        venue="SIAM Journal on Numerical Analysis 20(2)",
    ),
    purpose="Where inner products cost more than products with the matrix: many processors, or a GPU.",
    claim="Fewer iterations of conjugate gradients, and fewer inner products, at about as many products in all.",
    example="precond.solve(A, b, method='cg', preconditioner='chebyshev-polynomial')",
    space={"degree": Choice((2, 4, 8, 16)), "ratio": Choice((10.0, 30.0, 100.0, 300.0))},
    aliases=("chebyshev",),
)
def chebyshev_polynomial(degree: int = 8, ratio: float = 30.0) -> ChebyshevPolynomial:
    """Return the polynomial ``p(A)`` whose residual ``1 - t p(t)`` is least on ``[b / ratio, b]``: Chebyshev's.

    Deviations:
        1. Bounds come from ten Lanczos steps; the paper assumes them known.

    Args:
        degree: Degree of the residual polynomial.
        ratio: Upper bound of the spectrum over the lower end of the interval.

    Returns:
        The preconditioner.
    """
    return ChebyshevPolynomial(degree=degree, ratio=ratio)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=_both,
    family="products",
    paper=Paper(
        title="Polynomial Preconditioning for Gradient Methods",
        authors="N. Doikov, A. Rodomanov",
        year=2023,
        arxiv="2301.13194",
        venue="ICML",
    ),
    purpose="A few large eigenvalues far from the rest, without knowing where they are.",
    claim="The condition number behaves as if the largest tau eigenvalues were cut off.",
    example="precond.solve(A, b, method='cg', preconditioner='symmetric-polynomial')",
    space={"degree": Choice((1, 2, 3, 4, 5))},
    aliases=("polynomial",),
)
def symmetric_polynomial(degree: int = 2) -> SymmetricPolynomial:
    """Return ``P_tau = (1 / tau) sum_{i=1}^tau (-1)^(i-1) P_{tau-i} U_i`` with ``U_i = tr(B^i) I - B^i``.

    Applied in the equal form ``P_tau = sigma_tau I - B P_{tau-1}``.

    Deviations:
        1. Traces of matrices of more than 200 columns are estimated with random signs.
        2. Where an estimate makes some ``sigma_t`` vanish, the degree is lowered below it.

    Args:
        degree: ``tau``.

    Returns:
        The preconditioner.
    """
    return SymmetricPolynomial(degree=degree)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LINEAR_SYSTEM,
    family="products",
    paper=Paper(
        title="Deflation of conjugate gradients with applications to boundary value problems",
        authors="R. A. Nicolaides",
        year=1987,
        venue="SIAM Journal on Numerical Analysis 24(2)",
    ),
    purpose="A few small eigenvalues whose vectors are smooth, or known: elliptic problems, many domains.",
    claim="Components in the subspace no longer slow conjugate gradients down.",
    example="from precond.preconditioners.deflation import Deflation, Given\n"
    "from precond.preconditioners.jacobi import Jacobi\n"
    "W = torch.eye(12, 2, dtype=torch.float64)\n"
    "precond.solve(A, b, method='cg', preconditioner=Deflation(Given(W), Jacobi()))",
    space={"count": Choice((4, 8, 16, 32, 64))},
)
def deflation(count: int = 8) -> Deflation:
    """Return ``P = Q + (I - Q A) M (I - A Q)``, ``Q = W (W^H A W)^-1 W^H``, with ``M`` the inverse of the diagonal.

    ``W`` holds the indicators of consecutive groups of unknowns; `Deflation` takes any subspace and any ``M``.

    Deviations:
        1. The balanced form (J. Mandel, 1993), which is symmetric positive definite and needs no special starting
           point, in place of a projected iteration.

    Args:
        count: Number of groups.

    Returns:
        The preconditioner.
    """
    return Deflation(Aggregates(count), Jacobi())
