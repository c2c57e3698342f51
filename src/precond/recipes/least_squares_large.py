"""Methods for nonlinear least squares in many variables."""

from __future__ import annotations

from precond.core import Builds, Kind, LogUniform, Method, Paper
from precond.krylov.cg import CG
from precond.preconditioners.identity import Identity
from precond.preconditioners.inverse_of import InverseOf, SquareRoot
from precond.preconditioners.sparse_inverse import SparseInverse
from precond.recipes.registry import recipe
from precond.steps.levenberg_marquardt import LevenbergMarquardt


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="least-squares",
    paper=Paper(
        title="An inexact Levenberg-Marquardt method for large sparse nonlinear least squares",
        authors="S. J. Wright, J. N. Holt",
        year=1985,
        venue="Journal of the Australian Mathematical Society, Series B 26",
    ),
    purpose="Nonlinear least squares in many variables, by products with the Jacobian and its transpose.",
    claim="The convergence of Levenberg-Marquardt, with systems solved no more accurately than they deserve.",
    example="precond.least_squares(lambda x: x.exp() - 2, torch.zeros(3).double(), method='krylov-lm')",
    space={"damping": LogUniform(1e-9, 1e3), "cap": LogUniform(1e-3, 0.5)},
    name="krylov-lm",
)
def krylov_lm(*, damping: float = 1e-3, accept: float = 1e-3, cap: float = 0.1) -> Method:
    """Levenberg-Marquardt with systems solved by conjugate gradients, from products with ``J`` and ``J'`` alone.

    ``(J'J + mu I) d = -J'r`` is solved to a residual of ``min(cap, sqrt(||J'r||)) ||J'r||``; acceptance and damping are
    those of ``levenberg-marquardt``. ``precond.least_squares`` scales the variables by estimated norms of the columns
    at the start.

    Deviations:
        1. The paper solves by LSQR; conjugate gradients on the normal equations make the same iterates in exact
           arithmetic, and take any symmetric preconditioner.
        2. Damping by Nielsen's formula, as in ``levenberg-marquardt``.

    Args:
        damping: First ``mu``.
        accept: Smallest gain ratio of an accepted step.
        cap: Largest relative residual of an inner solve.

    Returns:
        The method.
    """
    return Method(preconditioner=InverseOf(CG(), Identity(), SquareRoot(cap)), step=LevenbergMarquardt(damping, accept))


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="least-squares",
    paper=Paper(
        title="Methods for non-linear least squares problems",
        authors="Kaj Madsen, Hans Bruun Nielsen, Ole Tingleff",
        year=2004,
        venue="Technical University of Denmark",
    ),
    purpose="Nonlinear least squares in many variables, of which each residual sees a few: bands, graphs, grids.",
    claim="Converges from far, with one system for each step.",
    example="precond.least_squares(lambda x: x.exp() - 2, torch.zeros(3).double(), method='sparse-lm')",
    space={"damping": LogUniform(1e-9, 1e3)},
    name="sparse-lm",
)
def sparse_lm(*, damping: float = 1e-3, accept: float = 1e-3) -> Method:
    """Levenberg-Marquardt by sparse factorizations of ``J'J + mu D^2``.

    Steps are those of ``levenberg-marquardt`` with More's scaling. ``precond.least_squares`` takes the entries of ``J``
    from a sparse ``jac``, or recovers them from a few products where a torch function has a sparse one.

    Deviations:
        1. The paper damps by a multiple of the identity; here variables are scaled as by More (1978).
        2. Forming ``J'J`` squares the condition, as in the paper; rounding that makes it indefinite is shifted away.

    Args:
        damping: First ``mu``.
        accept: Smallest gain ratio of an accepted step.

    Returns:
        The method.
    """
    return Method(preconditioner=SparseInverse(), step=LevenbergMarquardt(damping, accept))
