"""Preconditioners made from factors of a matrix: incomplete ones, complete ones, the pseudoinverse."""

from __future__ import annotations

from precond.core import BadInputError, Builds, Choice, Kind, LogUniform, Paper
from precond.preconditioners.ic0 import IC0
from precond.preconditioners.ict import ICT
from precond.preconditioners.ilu0 import ILU0
from precond.preconditioners.ilut import ILUT
from precond.preconditioners.lu import LU
from precond.preconditioners.pseudo_inverse import PseudoInverse
from precond.recipes.registry import recipe

_both = frozenset({Kind.LINEAR_SYSTEM, Kind.LEAST_SQUARES})

_MEIJERINK = Paper(
    title="An iterative solution method for linear systems of which the coefficient matrix is a symmetric M-matrix",
    authors="J. A. Meijerink, H. A. van der Vorst",
    year=1977,
    venue="Mathematics of Computation 31(137)",
)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=_both,
    family="incomplete",
    paper=_MEIJERINK,
    purpose="Symmetric positive definite sparse matrices, with the memory of one triangle of the matrix.",
    claim="Exists for every symmetric M-matrix, and cuts the iterations of conjugate gradients on elliptic problems "
    "several times.",
    example="precond.solve(A, b, method='cg', preconditioner='ic0')",
    name="ic0",
    aliases=("ic", "incomplete-cholesky", "icc"),
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


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=_both,
    family="incomplete",
    paper=Paper(
        title="Incomplete Cholesky factorizations with limited memory",
        authors="C.-J. Lin, J. J. More",
        year=1999,
        venue="SIAM Journal on Scientific Computing 21(1)",
    ),
    purpose="Symmetric positive definite matrices for which the pattern of the matrix is not enough.",
    claim="Fewer iterations and less time than without fill, at a memory that is known beforehand.",
    example="precond.solve(A, b, method='cg', preconditioner='ict')",
    space={"drop": LogUniform(1e-5, 1e-1), "fill": Choice((0, 5, 10, 20))},
    name="ict",
    aliases=("ichol", "incomplete-cholesky-threshold"),
)
def ict(drop: float = 1e-3, fill: int = 10) -> ICT:
    """Return an incomplete Cholesky factorization with threshold and limited fill, ``P = S L^-H L^-1 S``.

    Column by column, ``l_j = (a_j - sum_{k<j} l_k conj(l_jk)) / l_jj``; of the numerator, entries of at most ``drop``
    times the norm of column ``j`` are dropped, then all but the largest: as many as the matrix has there and ``fill``
    more. When a pivot is not positive, of ``S A S + alpha I`` with ``alpha`` doubled.

    Deviations:
        1. The paper keeps a number of entries alone; the threshold is N. Munksgaard's (*Solving sparse symmetric sets
           of linear equations by preconditioned conjugate gradients*, 1980).
        2. Scaled to unit diagonal; the paper scales columns to unit norm.
        3. Of an entry dropped nothing is kept on the diagonal.

    Args:
        drop: Threshold, relative.
        fill: Additional entries of a column.

    Returns:
        The preconditioner.
    """
    return ICT(drop=drop, fill=fill)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LINEAR_SYSTEM,
    family="incomplete",
    paper=_MEIJERINK,
    purpose="Nonsymmetric sparse matrices, with the memory of the matrix.",
    claim="Exists for every M-matrix, symmetric or not, and A = L U - R is then a regular splitting.",
    example="precond.solve(A, b, method='gmres', preconditioner='ilu0')",
    name="ilu0",
)
def ilu0() -> ILU0:
    """Return the incomplete LU factorization on the pattern of the matrix, ``P = U^-1 L^-1 R``.

    ``(L U)_ij = (R A)_ij`` wherever ``a_ij != 0`` and zero elsewhere in ``L`` and ``U``; ``R`` scales each row to unit
    largest entry. When a pivot is too small, of ``R A + alpha diag(sign)`` with ``alpha`` doubled until the
    factorization exists.

    Deviations:
        1. The rows are scaled first (the paper does not), so that one sequence of shifts serves all matrices.
        2. Shifted when it breaks down; the paper's matrices never do.
    """
    return ILU0()


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LINEAR_SYSTEM,
    family="incomplete",
    paper=Paper(
        title="On the eigenvalue distribution of a class of preconditioning methods",
        authors="O. Axelsson, G. Lindskog",
        year=1986,
        venue="Numerische Mathematik 48",
    ),
    purpose="Nonsymmetric sparse matrices of diffusion and convection, with the memory of the matrix.",
    claim="Iterations grow as the square root of those of the factorization without compensation.",
    example="precond.solve(A, b, method='bicgstab', preconditioner='milu0')",
    space={"compensation": Choice(("auto", 0.8, 0.9, 0.95, 0.98, 1.0))},
    name="milu0",
    aliases=("rilu0",),
)
def milu0(compensation: float | str = "auto") -> ILU0:
    """Return the relaxed incomplete LU factorization on the pattern of the matrix, ``P = U^-1 L^-1 R``.

    As `ilu0`, but ``w`` times the entries that elimination would put off the pattern is added to the pivot of their
    row. With ``w = 1`` (I. Gustafsson, *A class of first order factorization methods*, 1978) ``L U 1 = R A 1``: smooth
    vectors, on which `ilu0` acts worst, are treated exactly; somewhat less keeps the largest eigenvalues bounded.

    Deviations:
        1. The rows are scaled first, and shifted on breakdown, as for `ilu0`.
        2. A row whose pivot would lose more than nine tenths is not compensated; the paper's matrices, which are
           diagonally dominant, have no such row.

    Args:
        compensation: ``w``, from 0 to 1; ``"auto"`` takes ``1 - 4 / sqrt(n)`` for ``n`` unknowns.

    Returns:
        The preconditioner.

    Raises:
        BadInputError: Another word, or a number that is not from 0 to 1.
    """
    if isinstance(compensation, str) and compensation != "auto":
        raise BadInputError(f"milu0 needs a compensation from 0 to 1 or 'auto', not {compensation!r}")
    return ILU0(compensation=None if isinstance(compensation, str) else compensation)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LINEAR_SYSTEM,
    family="incomplete",
    paper=Paper(
        title="A supernodal approach to incomplete LU factorization with partial pivoting",
        authors="X. S. Li, M. Shao",
        year=2011,
        venue="ACM Transactions on Mathematical Software 37(4)",
    ),
    purpose="Hard nonsymmetric or indefinite sparse matrices: pivoting, and fill where it matters.",
    claim="Solves more systems, with factors smaller and found faster, than column-wise incomplete LU codes.",
    example="precond.solve(A, b, method='gmres', preconditioner='ilut')",
    space={"drop_tolerance": LogUniform(1e-6, 1e-1), "fill": Choice((2.0, 5.0, 10.0, 20.0))},
    name="ilut",
    aliases=("ilu", "spilu"),
)
def ilut(drop_tolerance: float = 1e-4, fill: float = 10.0) -> ILUT:
    """Return an incomplete LU factorization with threshold and partial pivoting, computed by SuperLU.

    ``Pr S A T Pc ~ L U``: of each column, entries below ``drop_tolerance`` times its norm are dropped; the threshold
    rises where the factors would have more than ``fill`` times the entries of the matrix. ``P = T Pc U^-1 L^-1 Pr S``.
    The idea of a dual threshold is Y. Saad's, *ILUT: a dual threshold incomplete LU factorization*, 1994.

    Deviations:
        1. Scaled by the largest entries of rows, then columns; the paper also permutes large entries to the diagonal
           (MC64) before.
        2. Where the factorization meets an exactly singular matrix, a small diagonal is added, and reported.

    Args:
        drop_tolerance: Threshold; zero drops nothing.
        fill: Largest growth of the number of entries.

    Returns:
        The preconditioner.
    """
    return ILUT(drop_tolerance=drop_tolerance, fill=fill)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LINEAR_SYSTEM,
    family="incomplete",
    paper=Paper(
        title="A supernodal approach to sparse partial pivoting",
        authors="J. W. Demmel, S. C. Eisenstat, J. R. Gilbert, X. S. Li, J. W. H. Liu",
        year=1999,
        venue="SIAM Journal on Matrix Analysis and Applications 20(3)",
    ),
    purpose="Sequences of systems near one another: the factors of one matrix precondition the others.",
    claim="A direct solution; the fill of sparse factors is kept low by ordering the columns.",
    example="sequence = precond.SolveSequence(method='gcrodr', preconditioner='lu')\nsequence.solve(A, b)",
    name="lu",
    aliases=("splu", "superlu"),
)
def lu() -> LU:
    """Return a complete LU factorization, computed by SuperLU: ``Pr S A T Pc = L U``, ``P = T Pc U^-1 L^-1 Pr S``.

    Deviations:
        1. Where the pattern is symmetric, columns are ordered by minimum degree of ``A + A^T`` and pivots near the
           diagonal are preferred (threshold 0.1), as SuperLU offers; where that is inaccurate, the paper's way follows.
        2. The triangles are applied row by row, not by supernodes.
        3. A singular matrix gets a small multiple of the identity added, and it is reported.
        4. Scaled by the largest entries of rows, then columns, where these differ by more than a factor of 1000.
    """
    return LU()


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LINEAR_SYSTEM,
    family="incomplete",
    paper=Paper(
        title="Calculating the singular values and pseudo-inverse of a matrix",
        authors="G. H. Golub, W. Kahan",
        year=1965,
        venue="Journal of the SIAM, Series B: Numerical Analysis 2(2)",
    ),
    purpose="Small singular systems: a solution where there is one, the least residual where there is none.",
    claim="The singular value decomposition gives the pseudoinverse without forming normal equations.",
    example="precond.solve(A, b, method='richardson', preconditioner='pseudo-inverse')",
    aliases=("pinv",),
)
def pseudo_inverse() -> PseudoInverse:
    """Return ``P = T (A T)^+``, singular values below rounding taken as zero.

    Deviations:
        1. Columns are scaled to unit norm by ``T`` first (the paper does not), so that units do not decide the rank.
    """
    return PseudoInverse()
