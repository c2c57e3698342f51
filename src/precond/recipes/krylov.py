"""Krylov iterations for linear systems and least squares."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, Paper
from precond.krylov import CG, FGMRES, GMRES, LSMR, LSQR, MINRES, BiCGStab
from precond.recipes.registry import recipe


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="krylov",
    paper=Paper(
        title="Methods of conjugate gradients for solving linear systems",
        authors="M. R. Hestenes, E. Stiefel",
        year=1952,
        venue="Journal of Research of the National Bureau of Standards 49(6)",
    ),
    purpose="Symmetric positive definite systems, with any fixed symmetric positive definite preconditioner.",
    claim="Minimizes the energy norm of the error over the Krylov space; exact after as many steps as there are "
    "distinct eigenvalues.",
    example="precond.solve(A, b, method='cg', preconditioner='ic0')",
)
def cg() -> CG:
    """Preconditioned conjugate gradients.

    ``alpha = <r, P r> / <p, A p>``, ``x += alpha p``, ``r -= alpha A p``, ``beta = <r+, P r+> / <r, P r>``,
    ``p = P r+ + beta p``.

    Deviations:
        1. The preconditioner, which the paper does not have, enters as ``P r`` in place of ``r``.
    """
    return CG()


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="krylov",
    paper=Paper(
        title="Solution of sparse indefinite systems of linear equations",
        authors="C. C. Paige, M. A. Saunders",
        year=1975,
        venue="SIAM Journal on Numerical Analysis 12(4)",
    ),
    purpose="Symmetric systems, definite or not, with a symmetric positive definite preconditioner.",
    claim="Minimizes the residual over the Krylov space with short recurrences, also for indefinite matrices.",
    example="precond.solve(A, b, method='minres', preconditioner='jacobi')",
)
def minres() -> MINRES:
    """Preconditioned minimum residuals: Lanczos process, one Givens rotation for each step.

    Deviations:
        1. The preconditioner, which the paper does not have, defines the inner product of the Lanczos process; the
           residual is then minimal in its norm.
        2. The residual vector is kept by a recurrence, so that its Euclidean norm is known with a preconditioner.
        3. When the matrix is singular and the system inconsistent the iteration stops at the minimal residual; the
           solution is not the one of least norm.
    """
    return MINRES()


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="krylov",
    paper=Paper(
        title="GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems",
        authors="Y. Saad, M. H. Schultz",
        year=1986,
        venue="SIAM Journal on Scientific and Statistical Computing 7(3)",
    ),
    purpose="Any square system, with any fixed linear preconditioner; memory grows with the length of a cycle.",
    claim="Minimizes the residual over the Krylov space of any square matrix; cannot break down without being exact "
    "when the matrix is not singular.",
    example="precond.solve(A, b, method=precond.krylov.GMRES(restart=50), preconditioner='ssor')",
    space={"restart": Choice((10, 20, 30, 50, 80))},
)
def gmres(restart: int = 30) -> GMRES:
    """GMRES(m): Arnoldi process, small triangular least-squares problem, restarts.

    Deviations:
        1. Preconditioned from the right, so that the minimized residual is the true one.
        2. Orthogonalized by classical Gram-Schmidt twice, not by modified Gram-Schmidt once.

    Args:
        restart: Steps of a cycle.

    Returns:
        The iteration.
    """
    return GMRES(restart=restart)


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LEAST_SQUARES,
    family="krylov",
    paper=Paper(
        title="LSQR: An algorithm for sparse linear equations and sparse least squares",
        authors="C. C. Paige, M. A. Saunders",
        year=1982,
        venue="ACM Transactions on Mathematical Software 8(1)",
    ),
    purpose="Linear least squares of any shape, known by products with the matrix and its adjoint.",
    claim="Equal to conjugate gradients on the normal equations in exact arithmetic, and more reliable in rounded.",
    example="precond.lstsq(A, b, method='lsqr', preconditioner='jacobi')",
)
def lsqr() -> LSQR:
    """LSQR: Golub-Kahan bidiagonalization, one rotation for each step.

    Deviations:
        1. A preconditioner of ``A^H A`` enters through the inner product, without a factor (Arridge, Betcke, Harhanen,
           2014).
        2. No damping, and no estimates of the condition number.
    """
    return LSQR()


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="krylov",
    paper=Paper(
        title="A flexible inner-outer preconditioned GMRES algorithm",
        authors="Y. Saad",
        year=1993,
        venue="SIAM Journal on Scientific Computing 14(2)",
    ),
    purpose="Any square system, with a preconditioner that changes in every step, such as another iteration.",
    claim="Minimizes the residual over the span of the preconditioned vectors at twice the memory of GMRES.",
    example="from precond.preconditioners import inverse_of, jacobi\n"
    "inner = inverse_of.InverseOf(precond.krylov.BiCGStab(), jacobi.Jacobi(), limit=5)\n"
    "precond.solve(A, b, method='fgmres', preconditioner=inner)",
    space={"restart": Choice((10, 20, 30, 50, 80))},
    aliases=("flexible-gmres",),
)
def fgmres(restart: int = 30) -> FGMRES:
    """FGMRES(m): GMRES that keeps ``z_j = P_j v_j``, so that ``x + Z y`` has minimal residual for any ``P_j``.

    Deviations:
        1. Orthogonalized by classical Gram-Schmidt twice, not by modified Gram-Schmidt once.

    Args:
        restart: Steps of a cycle.

    Returns:
        The iteration.
    """
    return FGMRES(restart=restart)


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="krylov",
    paper=Paper(
        title="Bi-CGSTAB: a fast and smoothly converging variant of Bi-CG for the solution of nonsymmetric linear "
        "systems",
        authors="H. A. van der Vorst",
        year=1992,
        venue="SIAM Journal on Scientific and Statistical Computing 13(2)",
    ),
    purpose="Any square system at a fixed, small memory, two products an iteration.",
    claim="Often converges faster and more smoothly than CG-S, without products with the transposed matrix.",
    example="precond.solve(A, b, method='bicgstab', preconditioner='ilu0')",
    name="bicgstab",
)
def bicgstab() -> BiCGStab:
    """BiCGStab: ``alpha = <s, r> / <s, A P p>``, ``h = r - alpha A P p``, ``omega`` minimizes ``||h - omega A P h||``.

    Deviations:
        1. Where a coefficient vanishes before the residual does, the row starts again with a new shadow residual.
    """
    return BiCGStab()


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LEAST_SQUARES,
    family="krylov",
    paper=Paper(
        title="LSMR: An iterative algorithm for sparse least-squares problems",
        authors="D. C.-L. Fong, M. A. Saunders",
        year=2011,
        arxiv="1006.0758",
        venue="SIAM Journal on Scientific Computing 33(5)",
    ),
    purpose="Linear least squares where the run may have to stop early.",
    claim="Equal to MINRES on the normal equations; ||A^H r|| never grows, so that it may stop earlier than LSQR.",
    example="precond.lstsq(A, b, method='lsmr', preconditioner='jacobi')",
)
def lsmr() -> LSMR:
    """LSMR: Golub-Kahan bidiagonalization, two rotations for each step.

    Deviations:
        1. A preconditioner of ``A^H A`` enters through the inner product, without a factor; ``||A^H r||`` is then
           minimal in the norm of the preconditioner.
        2. ``A^H r`` is kept by a recurrence, one vector more than the paper.
        3. No damping, and no estimates of norm and condition number.
    """
    return LSMR()
