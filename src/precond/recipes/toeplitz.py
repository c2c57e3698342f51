"""Preconditioners of Toeplitz matrices."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, Paper
from precond.preconditioners.circulant import Circulant
from precond.preconditioners.tau import Tau
from precond.recipes.registry import recipe


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LINEAR_SYSTEM,
    family="toeplitz",
    paper=Paper(
        title="An optimal circulant preconditioner for Toeplitz systems",
        authors="T. F. Chan",
        year=1988,
        venue="SIAM Journal on Scientific and Statistical Computing 9(4)",
    ),
    purpose="Toeplitz matrices and others that are nearly constant along diagonals, two Fourier transforms a product.",
    claim="The circulant nearest to the matrix in the Frobenius norm; the spectrum of the product clusters at one.",
    example="precond.solve(A, b, method='gmres', preconditioner='circulant')",
    space={"kind": Choice(("chan", "strang"))},
)
def circulant(kind: str = "chan") -> Circulant:
    """Return a circulant: T. Chan's, ``c_k = ((n - k) t_k + k t_{k-n}) / n``, or Strang's, central diagonals.

    G. Strang, *A proposal for Toeplitz matrix calculations*, 1986.

    Deviations:
        1. Of a symmetric matrix the eigenvalues enter by their absolute values.
        2. Eigenvalues at rounding are replaced by the smallest of the others.
        3. A matrix that is not Toeplitz counts by the means of its diagonals, which for T. Chan's circulant is the
           optimum, too (E. Tyrtyshnikov, 1992).

    Args:
        kind: ``"chan"`` or ``"strang"``.

    Returns:
        The preconditioner.
    """
    return Circulant(kind)  # type: ignore[arg-type]  # checked there


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LINEAR_SYSTEM,
    family="toeplitz",
    paper=Paper(
        title="A new preconditioner for the parallel solution of positive definite Toeplitz systems",
        authors="D. Bini, F. Di Benedetto",
        year=1990,
        venue="Proceedings of the second annual ACM symposium on parallel algorithms and architectures",
    ),
    purpose="Symmetric Toeplitz matrices whose symbol vanishes at the origin: fractional derivatives, Laplacians.",
    claim="A superlinear number of iterations where the symbol has zeros, for which circulants are nearly singular.",
    example="precond.solve(A, b, method='gmres', preconditioner='tau')",
)
def tau() -> Tau:
    """Return the natural tau matrix, ``S diag(f(pi j / (n + 1))) S`` with the sine transform ``S``.

    Deviations:
        1. The eigenvalues enter by their absolute values; those at rounding are replaced by the smallest of the others.
        2. A matrix that is not Toeplitz counts by the means of its diagonals.
    """
    return Tau()
