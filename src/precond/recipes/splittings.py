"""Preconditioners made from parts of a matrix as they are: nothing, the diagonal, a triangle, blocks."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, Paper, Uniform
from precond.preconditioners.block_jacobi import BlockJacobi
from precond.preconditioners.identity import Identity
from precond.preconditioners.jacobi import Jacobi
from precond.preconditioners.schwarz import Schwarz
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
    aliases=("none",),
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
        title="A method of block iteration",
        authors="R. J. Arms, L. D. Gates, B. Zondek",
        year=1956,
        venue="Journal of the Society for Industrial and Applied Mathematics 4(4)",
    ),
    purpose="Several unknowns at each point of a grid, numbered together.",
    claim="Relaxation by blocks converges faster than point by point on elliptic difference equations.",
    example="precond.solve(A, b, method='cg', preconditioner='block-jacobi')",
    space={"size": Choice((2, 3, 4, 6, 8, 16))},
)
def block_jacobi(size: int = 8) -> BlockJacobi:
    """Return the inverse of the block diagonal of the matrix, ``P = blockdiag(A_11, A_22, ...)^-1``.

    Deviations:
        1. A preconditioner rather than an iteration of its own, as the paper has it.
        2. Absolute values of the eigenvalues of symmetric blocks are taken, so that the map is positive definite.
        3. Eigenvalues (or singular values) below rounding are replaced by the largest of their block.

    Args:
        size: Unknowns of a block.

    Returns:
        The preconditioner.
    """
    return BlockJacobi(size=size)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LINEAR_SYSTEM,
    family="incomplete",
    paper=Paper(
        title="An additive variant of the Schwarz alternating method for the case of many subregions",
        authors="M. Dryja, O. B. Widlund",
        year=1987,
        venue="Technical report 339, Courant Institute",
    ),
    purpose="Sparse matrices in overlapping pieces that are solved exactly: strong couplings within one do no harm.",
    claim="With overlap, a number of iterations that depends on the size of the pieces and not on the mesh.",
    example="precond.solve(A, b, method='gmres', preconditioner='schwarz')",
    space={"size": Choice((200, 500, 1000, 2000)), "overlap": Choice((0, 1, 2, 4))},
    aliases=("additive-schwarz",),
)
def schwarz(size: int = 1000, overlap: int = 1) -> Schwarz:
    """Return additive Schwarz, ``P = sum_i R_i^T (R_i A R_i^T)^-1 R_i``.

    Deviations:
        1. Pieces are runs in the order of Cuthill and McKee; the paper has regions of a mesh.
        2. No coarse space; `Deflation` adds one.

    Args:
        size: Unknowns of a piece, before it is extended.
        overlap: Layers of neighbours that are added.

    Returns:
        The preconditioner.
    """
    return Schwarz(size=size, overlap=overlap)
