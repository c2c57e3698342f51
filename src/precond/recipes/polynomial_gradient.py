"""Gradient methods preconditioned by polynomials of a matrix."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, Method, Paper
from precond.krylov.cg import CG
from precond.preconditioners.identity import Identity
from precond.preconditioners.inverse_of import InverseOf, SquareRoot
from precond.preconditioners.symmetric_polynomial import SymmetricPolynomial
from precond.recipes.registry import recipe
from precond.steps.preconditioned_gradient import FastGradient, GradientStep

_PAPER = Paper(
    title="Polynomial Preconditioning for Gradient Methods",
    authors="N. Doikov, A. Rodomanov",
    year=2023,
    arxiv="2301.13194",
    venue="ICML",
)


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="second-order",
    paper=_PAPER,
    purpose="Smooth convex minimization where a few eigenvalues of the Hessian are far above the rest.",
    claim="Converges as if the largest tau eigenvalues were cut off.",
    example="precond.minimize(lambda x: ((x - 1) ** 2).sum(), torch.zeros(9).double(), method='polynomial-gradient')",
    space={"degree": Choice((1, 2, 3, 4, 5))},
)
def polynomial_gradient(*, degree: int = 2) -> Method:
    """``x+ = x - P_tau g / M`` with ``M`` by backtracking.

    Deviations:
        1. ``B`` is the Hessian at the current point; the paper has a fixed ``B`` with ``mu B <= f'' <= L B``, for which
           wrap the preconditioner in `precond.preconditioners.of_matrix.OfMatrix`.
        2. Traces in more than 200 dimensions are estimated.

    Args:
        degree: ``tau``.

    Returns:
        The method.
    """
    return Method(preconditioner=SymmetricPolynomial(degree), step=GradientStep())


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="second-order",
    paper=_PAPER,
    purpose="Smooth convex minimization where a few eigenvalues of the Hessian are far above the rest, accelerated.",
    claim="The square root of the condition number that is left when the largest tau eigenvalues are cut off.",
    example="precond.minimize(lambda x: ((x - 1) ** 2).sum(), torch.zeros(9).double(), "
    "method='polynomial-fast-gradient')",
    space={"degree": Choice((1, 2, 3, 4, 5))},
)
def polynomial_fast_gradient(*, degree: int = 2) -> Method:
    """The fast gradient method in the metric of ``P_tau^-1``.

    Deviations:
        1. ``B`` is the Hessian at the current point, as in `polynomial_gradient`.
        2. The momentum is Nesterov's sequence with restarts where the objective would rise; the paper's estimating
           sequences need ``q``.

    Args:
        degree: ``tau``.

    Returns:
        The method.
    """
    return Method(preconditioner=SymmetricPolynomial(degree), step=FastGradient())


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="second-order",
    paper=_PAPER,
    purpose="The gradient method with the best polynomial of the Hessian for each gradient, no traces needed.",
    claim="At least as good in each step as the best polynomial of the same degree.",
    example="precond.minimize(lambda x: ((x - 1) ** 2).sum(), torch.zeros(9).double(), method='krylov-gradient')",
    space={"degree": Choice((1, 2, 3, 4, 5, 8))},
)
def krylov_gradient(*, degree: int = 2) -> Method:
    """``x+ = x - h``, with ``h`` in ``span(g, B g, .., B^tau g)`` minimizing ``-<g, h> + (M / 2) <h, B h>``.

    That ``h`` is ``1 / M`` times ``tau + 1`` steps of conjugate gradients on ``B h = g`` from zero.

    Deviations:
        1. ``B`` is the Hessian at the current point, as in `polynomial_gradient`.

    Args:
        degree: ``tau``.

    Returns:
        The method.
    """
    return Method(preconditioner=InverseOf(CG(), Identity(), SquareRoot(0.0), limit=degree + 1), step=GradientStep())
