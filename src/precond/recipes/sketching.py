"""Least squares by random sketches."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, Paper
from precond.krylov.lsqr import LSQR
from precond.krylov.refinement import Refinement
from precond.preconditioners.qr import QR
from precond.preconditioners.sketch_qr import SketchQR
from precond.recipes.registry import recipe
from precond.sketches.sparse_sign import SparseSign

_FAST = Paper(
    title="Fast randomized least-squares solvers can be just as accurate and stable as classical direct solvers",
    authors="E. N. Epperly, M. Meier, Y. Nakatsukasa",
    year=2024,
    arxiv="2406.03468",
)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LEAST_SQUARES,
    family="sketching",
    paper=Paper(
        title="A fast randomized algorithm for overdetermined linear least-squares regression",
        authors="V. Rokhlin, M. Tygert",
        year=2008,
        venue="Proceedings of the National Academy of Sciences 105(36)",
    ),
    purpose="Tall least squares of any condition: a handful of iterations, whatever the singular values are.",
    claim="Condition number of the preconditioned matrix bounded by a small constant, at the cost of one sketch.",
    example="precond.lstsq(A, b, method='lsqr', preconditioner='sketch-qr')",
    space={"oversampling": Choice((4.0, 12.0, 20.0, 30.0)), "nonzeros": Choice((4, 8))},
    name="sketch-qr",
)
def sketch_qr(oversampling: float = 30.0, nonzeros: int = 4) -> SketchQR:
    """Return ``P = (A^H S^H S A)^-1`` by a QR factorization of the sketch ``S A``.

    Deviations:
        1. A sparse sign sketch in place of a subsampled Fourier transform (Y. Cherapanamjeri, J. Nelson; E. N. Epperly
           2023, arXiv 2311.04362): one reading of the matrix.
        2. Columns of the sketch are scaled first, and directions below rounding left out, as in arXiv 2406.03468.

    Args:
        oversampling: Rows of the sketch for each column.
        nonzeros: Entries in each column of ``S``.

    Returns:
        The preconditioner.
    """
    return SketchQR(SparseSign(nonzeros), oversampling)


@recipe(
    builds=Builds.PRECONDITIONER,
    runs_on=Kind.LEAST_SQUARES,
    family="direct",
    paper=Paper(
        title="Numerical Methods for Least Squares Problems",
        authors="A. Bjorck",
        year=1996,
        venue="SIAM, section 2.7",
    ),
    purpose="Dense least squares, small or nearly square, of any rank: the solution of least norm in one step.",
    claim="Backward stable; the solution of least norm where columns depend on each other.",
    example="precond.lstsq(A.toarray(), b, method='lsqr', preconditioner='qr')",
    name="qr",
)
def qr() -> QR:
    """Return ``P = (A^H A)^+`` by the orthogonal factors of ``A``, which also give the solution.

    Deviations: none.

    Returns:
        The preconditioner.
    """
    return QR()


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LEAST_SQUARES,
    family="sketching",
    paper=_FAST,
    purpose="Tall dense least squares to the accuracy of a direct method, in a fraction of its time.",
    claim="Backward stable like Householder QR, several times faster for tall matrices.",
    example="precond.lstsq(A, b, method='spir')",
    companion="sketch-qr",
)
def spir(stages: int = 2) -> Refinement:
    """SPIR: sketch-and-solve start, then two stages of refinement by preconditioned conjugate gradients.

    Each stage solves ``min ||A d - r||`` with ``r = b - A x`` on the normal equations, preconditioned by the sketch.

    Deviations:
        1. Stages run in ``x``, not in the coordinates ``R x`` of the sketch; the map is ``P = R^-1 R^-H``.
        2. The last stage ends by the size of its step, and the backward error is estimated afterwards; where it is
           above four units of rounding, both stages are run again from there.

    Args:
        stages: Stages of refinement.

    Returns:
        The iteration.
    """
    return Refinement(stages=stages)


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LEAST_SQUARES,
    family="sketching",
    paper=_FAST,
    purpose="Tall dense least squares to the accuracy of a direct method, without inner products.",
    claim="The first randomized least-squares solver that is both fast and backward stable.",
    example="precond.lstsq(A, b, method='fossils')",
    companion="sketch-qr",
)
def fossils(momentum: float = 1 / 12) -> Refinement:
    """FOSSILS: sketch-and-solve start, then two stages of refinement by the heavy ball.

    ``d_+ = d + (1 - beta)^2 P (A^H r - A^H A d) + beta (d - d_-)`` with ``beta = n / (rows of the sketch)``.

    Deviations:
        1. Stages run in ``x``, not in the coordinates ``R x`` of the sketch; ``A^H A d`` is kept by a recurrence.
        2. The last stage ends by the size of its step, and the backward error is estimated afterwards; where it is
           above four units of rounding, both stages are run again from there.
        3. Where steps do not shrink, because the preconditioner is no sketch, it goes on by conjugate gradients.

    Args:
        momentum: ``beta``; the paper's sketch has 12 rows for each column.

    Returns:
        The iteration.
    """
    return Refinement(momentum=momentum)


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LEAST_SQUARES,
    family="sketching",
    paper=Paper(
        title="Fast and forward stable randomized algorithms for linear least-squares problems",
        authors="E. N. Epperly",
        year=2024,
        arxiv="2311.04362",
        venue="SIAM Journal on Matrix Analysis and Applications 45(4)",
    ),
    purpose="Tall dense least squares without inner products, where a forward error like that of a direct method is "
    "enough.",
    claim="Forward stable; with momentum the error falls by the square root of columns over sketch rows each step.",
    example="precond.lstsq(A, b, method='iterative-sketching')",
    companion="sketch-qr",
    name="iterative-sketching",
)
def iterative_sketching(momentum: float = 1 / 12) -> Refinement:
    """Iterative sketching with damping and momentum, from the sketch-and-solve start.

    ``x_+ = x + (1 - beta)^2 P A^H (b - A x) + beta (x - x_-)`` with ``P = (A^H S^H S A)^-1`` and ``beta = n / (rows of
    the sketch)``: one stage of FOSSILS.

    Deviations:
        1. ``A^H (b - A x)`` is kept by a recurrence, so that ``A`` is read once a step.
        2. It ends when a step is below four units of rounding of ``||A|| ||x|| + ||r||``; the paper looks at changes of
           the residual. Where the backward error, estimated afterwards, is above four units of rounding, the stage is
           run again from there, which is what FOSSILS does.
        3. Where steps do not shrink, because the preconditioner is no sketch, it goes on by conjugate gradients.

    Args:
        momentum: ``beta``; that of a sketch with 12 rows for each column serves larger ones, too.

    Returns:
        The iteration.
    """
    return Refinement(momentum=momentum, stages=1)


@recipe(
    builds=Builds.ITERATION,
    runs_on=Kind.LEAST_SQUARES,
    family="sketching",
    paper=Paper(
        title="Are sketch-and-precondition least squares solvers numerically stable?",
        authors="M. Meier, Y. Nakatsukasa, A. Townsend, M. Webb",
        year=2024,
        arxiv="2302.07202",
        venue="SIAM Journal on Matrix Analysis and Applications 45(2)",
    ),
    purpose="Tall least squares to a given tolerance: LSQR with a sketched preconditioner, started at the sketch's own "
    "solution.",
    claim="Started at the sketched solution, LSQR loses far less accuracy on ill-conditioned problems than from zero.",
    example="precond.lstsq(A, b, method='sketch-precondition')",
    companion="sketch-qr",
    aliases=("sketch", "sketch-and-precondition"),
)
def sketch_precondition() -> LSQR:
    """Sketch-and-precondition (Blendenpik, LSRN) with the sketch-and-solve start ``argmin ||S A x - S b||``.

    Deviations:
        1. The preconditioner enters through the inner product, without applying the factor ``R^-1`` by itself.
        2. Where the certified tolerance is not met, LSQR starts again from where it is.
    """
    return LSQR()
