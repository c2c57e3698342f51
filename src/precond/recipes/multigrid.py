"""Multigrid preconditioners from the entries of a matrix."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, Paper
from precond.preconditioners.amg import AMG
from precond.recipes.registry import recipe


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LINEAR_SYSTEM,
    family="multigrid",
    paper=Paper(
        title="Algebraic multigrid by smoothed aggregation for second and fourth order elliptic problems",
        authors="P. Vanek, J. Mandel, M. Brezina",
        year=1996,
        venue="Computing 56(3)",
    ),
    purpose="Large symmetric matrices of elliptic problems: iterations that hardly grow with the size.",
    claim="Convergence nearly independent of the size, from the entries of the matrix and one vector of low energy.",
    example="precond.solve(A, b, method='cg', preconditioner='amg')",
    space={"strength": Choice((0.0, 0.02, 0.08, 0.25))},
    name="amg",
    aliases=("multigrid", "smoothed-aggregation", "pyamg"),
)
def amg(strength: float = 0.08) -> AMG:
    """Return one V(1, 1) cycle over levels found by smoothed aggregation.

    Unknowns are grouped by strong connections, ``|a_ij| > theta sqrt(a_ii a_jj)`` with ``theta = 0.08 / 2^level``; the
    tentative prolongation ``T`` carries a vector of low energy, and is smoothed by one step of damped Jacobi:
    ``P = (I - (4 / 3) / rho(D^-1 A_F) D^-1 A_F) T``, ``A_F`` with weak entries lumped; ``A_{l+1} = P^H A_l P``.

    Deviations:
        1. The vector of low energy is the constant after two Gauss-Seidel sweeps on ``A x = 0``, which notices
           boundaries and scalings; the paper takes those that the user has (rigid body modes).
        2. The spectral radius is estimated by six Lanczos steps; the paper bounds it.
        3. Gauss-Seidel forth, then back, smooths; the paper's analysis is for Richardson's and Jacobi's iteration.
        4. Levels rest in single precision where their entries allow; vectors do not.

    Args:
        strength: ``theta`` on the finest level.

    Returns:
        The preconditioner.
    """
    return AMG(strength=strength)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LINEAR_SYSTEM,
    family="multigrid",
    paper=Paper(
        title="Algebraic multigrid",
        authors="J. W. Ruge, K. Stuben",
        year=1987,
        venue="Multigrid Methods, SIAM Frontiers in Applied Mathematics 3",
    ),
    purpose="Symmetric M-matrices; fewer iterations than aggregation, more memory. Needs PyAMG: pip install "
    "'precond[amg]'.",
    claim="Convergence independent of the size for symmetric M-matrices, also anisotropic ones or with jumps.",
    example="precond.solve(A, b, method='cg', preconditioner='ruge-stuben')",
    space={"strength": Choice((0.1, 0.25, 0.5))},
    name="ruge-stuben",
    aliases=("classical-amg",),
)
def ruge_stuben(strength: float = 0.25) -> AMG:
    """Return one V(1, 1) cycle over levels found by the classical splitting into coarse and fine points, by PyAMG.

    Unknown ``i`` depends strongly on ``j`` where ``-a_ij >= theta max_k(-a_ik)``; coarse points are chosen so that many
    fine points depend on them, and fine points are interpolated from those they depend on.

    Deviations:
        1. Direct coarsening and interpolation are PyAMG's (`ruge_stuben_solver`).
        2. Levels rest in single precision where their entries allow; vectors do not.

    Args:
        strength: ``theta``.

    Returns:
        The preconditioner.
    """
    return AMG("ruge-stuben", strength)
