"""Iterations without inner products: relaxation, Richardson, Chebyshev."""

from __future__ import annotations

from precond.core import Builds, Kind, Paper, Uniform
from precond.krylov import SOR, Chebyshev, Richardson
from precond.recipes.registry import recipe


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="stationary",
    paper=Paper(
        title="Iterative methods for solving partial difference equations of elliptic type",
        authors="D. M. Young",
        year=1954,
        venue="Transactions of the American Mathematical Society 76(1)",
    ),
    purpose="Symmetric positive definite matrices and M-matrices; a baseline, and the object of learned relaxation.",
    claim="With the best omega, faster than Gauss-Seidel by an order of magnitude in the mesh width.",
    example="precond.solve(A, b, method=precond.krylov.SOR(omega=1.5))",
    space={"omega": Uniform(0.8, 1.95)},
    name="sor",
)
def sor(omega: float = 1.0, *, symmetric: bool = False) -> SOR:
    """SOR: ``x += (D / omega + L)^-1 (b - A x)``; SSOR sweeps back, too.

    Deviations:
        1. The residual is computed after each sweep, at the price of one product, so that it can be tested.
        2. Zeros on the diagonal are taken as one.

    Args:
        omega: Relaxation, in ``(0, 2)``.
        symmetric: Sweep forth and back.

    Returns:
        The iteration.
    """
    return SOR(omega=omega, symmetric=symmetric)


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="stationary",
    paper=Paper(
        title="On the numerical solution of elliptic difference equations",
        authors="J. W. Sheldon",
        year=1955,
        venue="Mathematical Tables and Other Aids to Computation 9",
    ),
    purpose="Symmetric positive definite matrices, where the error must fall in a symmetric way.",
    claim="Converges for every symmetric positive definite matrix and every 0 < omega < 2.",
    example="precond.solve(A, b, method='ssor', max_iterations=20000)",
    space={"omega": Uniform(0.8, 1.95)},
    name="symmetric-sor",
    aliases=("ssor",),
)
def symmetric_sor(omega: float = 1.0) -> SOR:
    """SSOR: a sweep of SOR forth, and one back; as a preconditioner it is called ``ssor``.

    Deviations:
        1. The residual is computed after each sweep, at the price of one product, so that it can be tested.
        2. Zeros on the diagonal are taken as one.

    Args:
        omega: Relaxation, in ``(0, 2)``.

    Returns:
        The iteration.
    """
    return SOR(omega=omega, symmetric=True)


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="stationary",
    paper=Paper(
        title="The approximate arithmetical solution by finite differences of physical problems involving differential "
        "equations",
        authors="L. F. Richardson",
        year=1911,
        venue="Philosophical Transactions of the Royal Society A 210",
    ),
    purpose="The iteration that a preconditioner alone makes; systems whose symmetric part is definite.",
    claim="Converges where the spectral radius of I - alpha P A is below one.",
    example="precond.solve(A, b, method='richardson', preconditioner='ilu0')",
)
def richardson(step: float | None = None) -> Richardson:
    """Richardson's iteration: ``x += alpha P (b - A x)``.

    Deviations:
        1. The preconditioner, which the paper does not have, enters as ``P r`` in place of ``r``.
        2. Unless a step is given, each step takes the ``alpha`` of least residual (Krasnoselskii, Krein, 1952); the
           paper varies ``alpha`` by a rule of thumb.

    Args:
        step: ``alpha``.

    Returns:
        The iteration.
    """
    return Richardson(step=step)


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="stationary",
    paper=Paper(
        title="Chebyshev semi-iterative methods, successive overrelaxation iterative methods, and second order "
        "Richardson iterative methods",
        authors="G. H. Golub, R. S. Varga",
        year=1961,
        venue="Numerische Mathematik 3",
    ),
    purpose="Symmetric positive definite systems where inner products are expensive or must be avoided.",
    claim="The error falls by 2 / (c^k + c^-k), c = (sqrt(kappa) + 1) / (sqrt(kappa) - 1), without inner products.",
    example="precond.solve(A, b, method='chebyshev', preconditioner='jacobi')",
)
def chebyshev(smallest: float | None = None, largest: float | None = None) -> Chebyshev:
    """Chebyshev's semi-iteration on the interval ``[a, b]`` of the spectrum of ``P A``.

    Deviations:
        1. The preconditioner, which the paper does not have, enters as ``P r`` in place of ``r``.
        2. Ends that are not given are estimated by 20 Lanczos steps, and the largest is raised where it proves too
           small.

    Args:
        smallest: ``a``.
        largest: ``b``.

    Returns:
        The iteration.
    """
    return Chebyshev(smallest=smallest, largest=largest)
