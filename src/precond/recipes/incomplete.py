"""Preconditioners made from the entries of a matrix: from none to incomplete factorizations."""

from __future__ import annotations

from precond.core import Builds, Kind, Paper, Uniform
from precond.preconditioners.ic0 import IC0
from precond.preconditioners.identity import Identity
from precond.preconditioners.jacobi import Jacobi
from precond.preconditioners.ssor import SSOR
from precond.recipes.registry import recipe

_both = frozenset({Kind.LINEAR_SYSTEM, Kind.LEAST_SQUARES})


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=_both,
    family="incomplete",
    paper=Paper(
        title="Methods of conjugate gradients for solving linear systems",
        authors="M. R. Hestenes, E. Stiefel",
        year=1952,
        venue="Journal of Research of the National Bureau of Standards 49(6)",
    ),
    purpose="No preconditioning: the baseline, and all that can be done with products alone.",
    claim="Costs nothing.",
    example="precond.solve(A, b, method='cg', preconditioner='identity')",
)
def identity() -> Identity:
    """Return the identity, ``P = I``.

    Deviations: none.
    """
    return Identity()


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=_both,
    family="incomplete",
    paper=Paper(
        title="Über eine neue Auflösungsart der bei der Methode der kleinsten Quadrate vorkommenden lineären "
        "Gleichungen",
        authors="C. G. J. Jacobi",
        year=1845,
        venue="Astronomische Nachrichten 22(20)",
    ),
    purpose="Badly scaled rows and columns, at the price of one vector.",
    claim="For symmetric positive definite matrices, within a factor of the largest number of entries in a row of the "
    "best diagonal scaling.",
    example="precond.solve(A, b, method='cg', preconditioner='jacobi')",
)
def jacobi() -> Jacobi:
    """Return the inverse of the diagonal, ``P = |diag(A)|^-1``.

    Deviations:
        1. The absolute value is taken, so that the map is positive definite also for indefinite matrices.
        2. Zeros on the diagonal count as one.
    """
    return Jacobi()


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=_both,
    family="incomplete",
    paper=Paper(
        title="A generalized SSOR method",
        authors="O. Axelsson",
        year=1972,
        venue="BIT 12(4)",
    ),
    purpose="Symmetric matrices with a positive diagonal, without any setup; also others, with gmres.",
    claim="With the right relaxation the condition number of an elliptic problem falls from h^-2 to h^-1.",
    example="precond.solve(A, b, method='cg', preconditioner=precond.preconditioners.ssor.SSOR(omega=1.5))",
    space={"omega": Uniform(0.2, 1.9)},
)
def ssor(omega: float = 1.0) -> SSOR:
    """Return one sweep of SOR forth and one back.

    ``P = omega (2 - omega) (D + omega U)^-1 D (D + omega L)^-1`` with ``A = L + D + U``; successive over-relaxation is
    due to D. M. Young, *Iterative methods for solving partial difference equations of elliptic type*, 1954.

    Deviations:
        1. Zeros on the diagonal count as one.

    Args:
        omega: Relaxation, in ``(0, 2)``.

    Returns:
        The preconditioner.
    """
    return SSOR(omega=omega)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=_both,
    family="incomplete",
    paper=Paper(
        title="An iterative solution method for linear systems of which the coefficient matrix is a symmetric M-matrix",
        authors="J. A. Meijerink, H. A. van der Vorst",
        year=1977,
        venue="Mathematics of Computation 31(137)",
    ),
    purpose="Symmetric positive definite sparse matrices, with the memory of one triangle of the matrix.",
    claim="Exists for every symmetric M-matrix, and cuts the iterations of conjugate gradients on elliptic problems "
    "several times.",
    example="precond.solve(A, b, method='cg', preconditioner='ic0')",
    name="ic0",
)
def ic0() -> IC0:
    """Return the incomplete Cholesky factorization on the pattern of the matrix, ``P = S L^-H L^-1 S``.

    Of the matrix scaled to unit diagonal, ``S A S``. When a pivot is not positive, of ``S A S + alpha I`` with
    ``alpha`` doubled until the factorization exists: T. A. Manteuffel, *An incomplete factorization technique for
    positive definite linear systems*, 1980.

    Deviations:
        1. The matrix is scaled first (the paper does not), so that one sequence of shifts serves all matrices.
    """
    return IC0()
