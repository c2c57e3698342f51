"""Methods for nonlinear least squares."""

from __future__ import annotations

from typing import Literal

from precond.core import Builds, Choice, Kind, LogUniform, Method, Paper, Uniform
from precond.preconditioners.dense_inverse import DenseInverse
from precond.preconditioners.identity import Identity
from precond.recipes.registry import recipe
from precond.steps.holder import Holder, HolderRegion
from precond.steps.levenberg_marquardt import LevenbergMarquardt
from precond.steps.structured_secant import StructuredSecant
from precond.steps.trust_region import TrustRegion

_MORE = Paper(
    title="The Levenberg-Marquardt algorithm: implementation and theory",
    authors="Jorge J. More",
    year=1978,
    venue="Numerical Analysis, Lecture Notes in Mathematics 630",
)


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="least-squares",
    paper=_MORE,
    purpose="Nonlinear least squares with up to some thousands of variables.",
    claim="Robust from poor starting points and independent of the scales of the variables.",
    example="precond.least_squares(lambda x: x.exp() - 2, torch.zeros(3).double(), method='levenberg-marquardt')",
    space={"damping": LogUniform(1e-9, 1e3), "scaling": Choice(("more", "columns", "none"))},
    aliases=("lm",),
)
def levenberg_marquardt(
    *, damping: float = 1e-3, scaling: Literal["more", "columns", "none"] = "more", accept: float = 1e-3
) -> Method:
    """Levenberg-Marquardt with More's scaling and Nielsen's damping.

    ``x+ = x - (J'J + mu D^2)^-1 J'r`` where ``d_i`` is the largest norm of the ``i``-th column of ``J`` so far. With
    ``rho`` the decrease of ``||r||^2 / 2`` over that of its model ``||r + J d||^2 / 2``, a step with ``rho > accept``
    is taken and ``mu`` multiplied by ``max(1/3, 1 - (2 rho - 1)^3)``; otherwise ``mu`` grows by ``nu = 2, 4, 8, ...``
    (Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05).

    Deviations:
        1. The damping is ruled by Nielsen's formula; More's paper finds ``mu`` from a trust radius.
        2. Steps come from the singular values of ``J D^-1``, applied to the gradient ``J'r``.
        3. Where the decrease that the model promises is below rounding, steps are taken as long as they shorten the
           gradient in the norm of ``(J'J + mu D^2)^-1`` by a twentieth of its square.
        4. After a search that failed, damping and scaling start afresh once.

    Args:
        damping: First ``mu``.
        scaling: ``"more"``, ``"columns"`` (the current norms alone, Marquardt's own) or ``"none"``.
        accept: Smallest gain ratio of an accepted step.

    Returns:
        The method.
    """
    return Method(preconditioner=DenseInverse(scaling), step=LevenbergMarquardt(damping, accept))


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="least-squares",
    paper=Paper(
        title="Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares minimization",
        authors="Mark K. Transtrum, James P. Sethna",
        year=2012,
        arxiv="1201.5885",
    ),
    purpose="Nonlinear least squares whose parameters are many and loosely determined: narrow, curved valleys.",
    claim="A second-order correction of each step follows narrow canyons with fewer Jacobians and more often succeeds.",
    example="precond.least_squares(lambda x: x.exp() - 2, torch.zeros(3).double(), method='geodesic-lm')",
    space={"damping": LogUniform(1e-9, 1e3), "avmax": Choice((0.1, 0.375, 0.75))},
    name="geodesic-lm",
)
def geodesic_lm(*, damping: float = 1e-3, accept: float = 1e-3, avmax: float = 0.75) -> Method:
    """Levenberg-Marquardt with geodesic acceleration.

    ``x+ = x + d + a / 2`` with ``d = -(J'J + mu D^2)^-1 J'r`` and ``a = -(J'J + mu D^2)^-1 J' r_dd``, where ``r_dd`` is
    the second derivative of the residuals along ``d``. A trial with ``||a|| > avmax ||d||`` counts as failed.

    Deviations:
        1. Damping, scaling and acceptance are those of ``levenberg-marquardt``; the paper studies several.
        2. The bound on ``||a||`` is GSL's; the paper writes ``2 ||a|| <= alpha ||d||`` with ``alpha = 0.75``.
        3. ``r_dd`` comes from automatic differentiation for torch functions, otherwise from the paper's difference
           formula with ``h = 0.02``.

    Args:
        damping: First ``mu``.
        accept: Smallest gain ratio of an accepted step.
        avmax: Bound on the acceleration.

    Returns:
        The method.
    """
    return Method(
        preconditioner=DenseInverse("more"), step=LevenbergMarquardt(damping, accept, geodesic=True, avmax=avmax)
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="least-squares",
    paper=_MORE,
    purpose="Nonlinear least squares from starting points of very wrong magnitude.",
    claim="Globally convergent, and robust because the step is bounded before the model is trusted.",
    example="precond.least_squares(lambda x: x.exp() - 2, torch.zeros(3).double(), method='trust-region-lm')",
    space={"factor": LogUniform(1e-2, 1e3), "scaling": Choice(("more", "columns", "none"))},
    name="trust-region-lm",
)
def trust_region_lm(
    *, factor: float = 100.0, accept: float = 1e-4, scaling: Literal["more", "columns", "none"] = "more"
) -> Method:
    """Levenberg-Marquardt as a trust region: the step is the minimizer of the model within ``||D d|| <= radius``.

    ``d = -(J'J + mu D^2)^-1 J'r`` where ``mu = 0`` if that step is short enough, and otherwise such that ``||D d||`` is
    within a tenth of the radius; ``d_i`` is the largest norm of the ``i``-th column of ``J`` so far. The radius starts
    at ``factor ||D x0||`` and follows the paper's rules (section 4), as in MINPACK's ``lmder``.

    Deviations:
        1. Steps come from the singular values of ``J D^-1`` instead of Givens rotations; Hebden's iteration for ``mu``
           is safeguarded by bisection in the logarithm.
        2. Where the decrease is below rounding, steps are taken as long as they shorten the gradient in the norm of
           ``(J'J + mu D^2)^-1``.
        3. After a search that failed, radius and scaling start afresh once.

    Args:
        factor: First radius, as a multiple of ``||D x0||``.
        accept: Smallest ratio of decreases of an accepted step.
        scaling: As in ``levenberg-marquardt``. With ``"none"`` and a factor of 1 variables may move as far as they are
            large, which leads back from starting points that are far too large, where columns of ``J`` are, too.

    Returns:
        The method.
    """
    return Method(preconditioner=DenseInverse(scaling), step=TrustRegion(factor, accept))


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="least-squares",
    paper=Paper(
        title="An adaptive nonlinear least-squares algorithm",
        authors="John E. Dennis, David M. Gay, Roy E. Welsch",
        year=1981,
        venue="ACM Transactions on Mathematical Software 7",
    ),
    purpose="Nonlinear least squares that do not fit well: large residuals at the solution.",
    claim="Superlinear where Gauss-Newton steps crawl, and as good as these where they are not.",
    example="precond.least_squares(lambda x: x.exp() + x - 2, torch.zeros(3).double(), method='nl2sol')",
    space={"factor": LogUniform(1e-2, 1e3), "scaling": Choice(("more", "columns", "none"))},
)
def nl2sol(*, factor: float = 1.0, scaling: Literal["more", "columns", "none"] = "more") -> Method:
    """Gauss-Newton steps, or those of a Hessian whose second part was learned from secants, in a trust region.

    The model is ``J'J`` or ``J'J + S``, whichever foretold the last step better, and ``S`` is updated after each
    (equations in `StructuredSecant`).

    Deviations:
        1. The region is that of ``trust-region-lm``. The paper tries the other model within an iteration, too; here it
           is taken after it was better twice, from the next iteration on.
        2. ``J'J + S`` is solved by its eigenvalues, with a shift of twice the lowest where that is negative.
        3. Updates with ``d'y <= 0`` are left out, and ``J'J`` is kept where columns of ``J`` are nearly dependent (a
           condition above 1000 after scaling), as ``J'J + S`` squares it.

    Args:
        factor: First radius, as a multiple of ``||D x0||``.
        scaling: As in ``trust-region-lm``.

    Returns:
        The method.
    """
    return Method(preconditioner=Identity(), step=StructuredSecant(TrustRegion(factor), DenseInverse(scaling)))


_HOLDER = Paper(
    title="Local convergence of the Levenberg-Marquardt method under Hölder metric subregularity",
    authors="Masoud Ahookhosh, Francisco J. Aragón Artacho, Ronan M. T. Fleming, Phan T. Vuong",
    year=2019,
    arxiv="1703.07461",
    venue="Advances in Computational Mathematics",
)


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="least-squares",
    paper=_HOLDER,
    purpose="Nonlinear equations near solutions that need not be isolated, such as steady states of networks.",
    claim="Superlinear convergence to solutions that are neither isolated nor regular, at a rate set by the exponent.",
    example="precond.least_squares(lambda x: x.exp() - 2, torch.zeros(3).double(), method='holder-lm')",
    space={"eta": Uniform(0.5, 2.0)},
    name="holder-lm",
    aliases=("lm-ar",),
)
def holder_lm(*, eta: float = 1.2, xi: float | None = None, omega: float = 0.0) -> Method:
    """LM-AR: Levenberg-Marquardt damped by powers of the residual and its gradient.

    ``x+ = x - (J'J + mu I)^-1 J'h`` with ``mu = xi ||h||^eta + omega ||J'h||^eta``. Adaptively ``xi = 1`` at first,
    then 0.95 while ``0.95^k >= 0.01``, then ``max(0.95^k, 1e-10)``, and ``omega = 1 - xi``. ``xi=1, eta=2`` is that of
    Yamashita and Fukushima, ``xi=1, eta=1`` that of Fan and Yuan, ``xi=0, omega=1, eta=1`` Fischer's.

    Deviations:
        1. Steps come from the singular values of ``J`` rather than from the normal equations.

    Args:
        eta: Exponent.
        xi: Weight of the residual; ``None`` adapts both weights.
        omega: Weight of the gradient, if ``xi`` is given.

    Returns:
        The method.
    """
    return Method(preconditioner=DenseInverse("none"), step=Holder(eta, xi, omega))


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="least-squares",
    paper=_HOLDER,
    purpose="Nonlinear equations from poor starting points, with solutions that need not be isolated.",
    claim="Globally convergent, and superlinear to solutions that are neither isolated nor regular.",
    example="precond.least_squares(lambda x: x.exp() - 2, torch.zeros(3).double(), method='holder-region-lm')",
    space={"eta": Uniform(0.5, 2.0), "theta": Uniform(0.0, 0.99)},
    name="holder-region-lm",
    aliases=("lmtr",),
)
def holder_region_lm(*, eta: float = 1.2, xi: float = 0.95, theta: float = 0.95) -> Method:
    """LMTR: the globalized `holder_lm`, with a ratio that compares with an average of past objectives.

    ``mu = max(1e-8, factor (xi ||h||^eta + (1 - xi) ||J'h||^eta))`` with a factor that starts at 0.01. The ratio is
    ``(D - psi(x + d)) / ((d'(J'J + mu I) d + mu ||d||^2) / 2)`` with ``psi = ||h||^2 / 2`` and ``D <- (1 - theta) psi +
    theta D``. Below 1e-4 the factor grows by ``2^p`` at the ``p``-th failure, from 0.9 it is halved, down to 1e-3.

    Deviations:
        1. After five failures of one iteration the authors' code takes the last trial; here the search goes on.
        2. Steps come from the singular values of ``J``.

    Args:
        eta: Exponent.
        xi: Weight of the residual.
        theta: Memory of the average; 0 asks for descent in each step.

    Returns:
        The method.
    """
    return Method(preconditioner=DenseInverse("none"), step=HolderRegion(eta, xi, theta=theta))
