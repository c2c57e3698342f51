"""Krylov iterations that keep more than short recurrences do: recycled and shadow spaces, blocks."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, Paper
from precond.krylov import GCRODR, IDR, BlockCG
from precond.recipes.registry import recipe


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="krylov",
    paper=Paper(
        title="Recycling Krylov subspaces for sequences of linear systems",
        authors="M. L. Parks, E. de Sturler, G. Mackey, D. D. Johnson, S. Maiti",
        year=2006,
        venue="SIAM Journal on Scientific Computing 28(5)",
    ),
    purpose="Sequences of related systems of any kind; single systems on which restarted GMRES stagnates.",
    claim="Keeps the harmonic Ritz vectors that slow convergence down over restarts, and hands them to the next "
    "system.",
    example="sequence = precond.SolveSequence(method='gcrodr', preconditioner='jacobi')\nsequence.solve(A, b)",
    space={"size": Choice((30, 40, 60)), "keep": Choice((5, 10, 20))},
)
def gcrodr(size: int = 40, keep: int = 20) -> GCRODR:
    """GCRO-DR(m, k): GMRES orthogonal to ``C = A U``, with ``U`` the harmonic Ritz vectors of least value.

    Deviations:
        1. Preconditioned from the right, and the preconditioned vectors are kept, so that the preconditioner may change
           in every step and ``U`` is a space of solutions: it serves the next system with any preconditioner.
        2. Orthogonalized by classical Gram-Schmidt, twice where the first projection leaves less than 0.7.
        3. ``U`` is found from the last cycle that was begun, also when the tolerance was met within it.
        4. The residual is recomputed at the start of each cycle (one product).
        5. A pair of complex conjugate harmonic Ritz vectors that ``k`` would split is left out.

    Args:
        size: Largest dimension of a cycle's space, ``m``.
        keep: Directions kept, ``k``.

    Returns:
        The iteration.
    """
    return GCRODR(size=size, keep=keep)


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="krylov",
    paper=Paper(
        title="IDR(s): a family of simple and fast algorithms for solving large nonsymmetric systems of linear "
        "equations",
        authors="P. Sonneveld, M. B. van Gijzen",
        year=2008,
        venue="SIAM Journal on Scientific Computing 31(2)",
    ),
    purpose="Any square system at a fixed, small memory, where BiCGStab is slow or breaks down.",
    claim="At most n + n / s products in exact arithmetic, against 2 n of BiCGStab.",
    example="precond.solve(A, b, method='idr', preconditioner='ilu0')",
    space={"shadow": Choice((1, 2, 4, 8))},
    name="idr",
    aliases=("idr(s)",),
)
def idr(shadow: int = 4) -> IDR:
    """IDR(s): residuals in spaces of shrinking dimension.

    Deviations:
        1. In the biorthogonal form of M. B. van Gijzen, P. Sonneveld, *Algorithm 913*, 2011.
        2. The steps of least residual are lengthened where they are nearly orthogonal to the residual (0.7), as there.
        3. Iterations are counted by products; the paper's cycle is ``s + 1`` of them.

    Args:
        shadow: Dimension of the shadow space, ``s``.

    Returns:
        The iteration.
    """
    return IDR(shadow=shadow)


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LINEAR_SYSTEM,
    family="krylov",
    paper=Paper(
        title="The block conjugate gradient algorithm and related methods",
        authors="D. P. O'Leary",
        year=1980,
        venue="Linear Algebra and its Applications 29",
    ),
    purpose="Several right-hand sides of one symmetric positive definite system.",
    claim="Right-hand sides share their directions: the smallest eigenvalues slow the block down as little as if they "
    "were not there.",
    example="precond.solve(A, torch.stack([b, b + 1], dim=1), method='block-cg', preconditioner='ic0')",
)
def block_cg() -> BlockCG:
    """Block CG: all right-hand sides minimize over the sum of their Krylov spaces.

    Deviations:
        1. Directions are orthonormalized, and dependent ones dropped (H. Ji, Y. Li, *A breakdown-free block conjugate
           gradient method*, 2017).
    """
    return BlockCG()
