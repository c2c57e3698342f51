"""Newton's method kept in check by its model: regularized by the gradient, cubically, or within a region of trust."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, LogUniform, Method, Paper
from precond.krylov.cg import CG
from precond.preconditioners.dense_inverse import DenseInverse
from precond.preconditioners.identity import Identity
from precond.preconditioners.inverse_of import InverseOf, ShiftRelative
from precond.preconditioners.lbfgs import LBFGS
from precond.recipes.registry import recipe
from precond.steps.cubic import Cubic
from precond.steps.gradient_normalized import GradientNormalized
from precond.steps.gradient_regularized import GradientRegularized
from precond.steps.steihaug import Steihaug

_GNS = Paper(
    title="Gradient-Normalized Smoothness for Optimization with Approximate Hessians",
    authors="Andrei Semenov, Martin Jaggi, Nikita Doikov",
    year=2025,
    arxiv="2506.13710",
)


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="second-order",
    paper=Paper(
        title="Regularized Newton Method with Global O(1/k^2) Convergence",
        authors="Konstantin Mishchenko",
        year=2023,
        arxiv="2112.02089",
        venue="SIAM Journal on Optimization 33",
    ),
    purpose="Smooth convex minimization with Hessian products, from any starting point.",
    claim="Global O(1/k^2) convergence on convex functions with Lipschitz Hessians, superlinear when strongly convex.",
    example="precond.minimize(lambda x: ((x - 1) ** 4).sum(), torch.zeros(9).double(), method='regularized-newton')",
    space={"h": LogUniform(1e-8, 1e2), "fraction": LogUniform(1e-3, 0.5)},
    aliases=("gradient-regularized-newton",),
)
def regularized_newton(*, h: float = 5e-6, search: bool = True, fraction: float = 0.1) -> Method:
    """Newton's method regularized by the square root of the gradient norm, with the paper's search for ``H``.

    ``x+ = x - (B + lambda I)^-1 g`` with ``lambda = sqrt(H ||g||)``. Each iteration tries ``H / 2`` first and doubles
    it until ``f(x+) <= f(x) - (2/3) lambda r^2`` and ``||g(x+)|| <= 2 lambda r`` with ``r = ||x+ - x||`` (AdaN).

    Deviations:
        1. The system is solved by conjugate gradients to a residual of ``fraction * lambda * r``; the first
           test is unharmed by it, as the residual is orthogonal to the step.
        2. From the third failure of one iteration on, the factor 2 itself doubles.
        3. Where values differ by rounding alone, the gradients decide.
        4. On functions that are not convex, negative curvature ends the inner solve as in Newton-CG.
        5. After a search that failed, ``H`` starts afresh once.

    Args:
        h: First ``H`` (the author's code starts there); with ``search=False`` the fixed ``H``, at least half the
            Lipschitz constant of the Hessian.
        search: Adapt ``H``.
        fraction: Residual of the inner solve beside ``lambda r``.

    Returns:
        The method.
    """
    return Method(
        preconditioner=InverseOf(CG(), Identity(), ShiftRelative(fraction)), step=GradientRegularized(h, search)
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="second-order",
    paper=_GNS,
    purpose="Smooth minimization with exact or approximate Hessians (Gauss-Newton, Fisher), of any smoothness.",
    claim="One adaptive radius gives the best known rates of every smoothness class, up to the error of the Hessian.",
    example="precond.minimize(lambda x: ((x - 1) ** 4).sum(), torch.zeros(9).double(), method='gradient-normalized')",
    space={"gamma": LogUniform(1e-3, 1e3), "fraction": LogUniform(1e-6, 0.5)},
    name="gradient-normalized",
    aliases=("gradient-normalized-newton", "gns"),
)
def gradient_normalized(*, gamma: float = 1.0, fraction: float | None = 1e-3) -> Method:
    """Newton's method regularized by gradient norm over an adaptive radius, for any approximation of the Hessian.

    ``x+ = x - (H + lambda I)^-1 g`` with ``lambda = ||g|| / (gamma + 1e-8)``. A trial is accepted when
    ``f(x) - f(x+) >= ||g(x+)||^2 / (8 lambda)``; then ``gamma`` becomes ``max(2 gamma, 1e-9)``, and after a failure
    ``gamma / 2``. ``H`` is the Hessian that the objective provides: with ``minimize(fun, x0, jac=..., hessp=...)``,
    ``hessp`` may be the product with any positive semidefinite approximation.

    Deviations:
        1. Unless ``fraction`` is ``None``, the system is solved by conjugate gradients to a residual of
           ``fraction * lambda * ||d||``, where the authors' code factorizes; negative curvature ends the inner solve as
           in Newton-CG. With ``None`` one spectral decomposition a point serves every ``lambda``, and a ``lambda`` too
           small for an indefinite ``H`` is raised to minus twice its least eigenvalue.
        2. Norms are Euclidean: another metric ``B = L L'`` is had by minimizing over ``z = L' x``.
        3. Where the decrease is below 1e-10 of ``|f|``, the paper's other test, ``-<g+, d> >= ||g+||^2 / (4 lambda)``,
           decides; and a step must lower the value or the norm of the gradient.
        4. After a search that failed, ``gamma`` starts afresh once.

    Args:
        gamma: First radius.
        fraction: Residual of the inner solve beside ``lambda ||d||``; ``None`` decomposes the matrix.

    Returns:
        The method.
    """
    inverse = DenseInverse() if fraction is None else InverseOf(CG(), Identity(), ShiftRelative(fraction))
    return Method(preconditioner=inverse, step=GradientNormalized(gamma))


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="second-order",
    paper=_GNS,
    purpose="Smooth minimization with gradients alone, regularized instead of searched along a line.",
    claim="One adaptive radius gives the best known rates of every smoothness class, up to the error of the Hessian.",
    example="precond.minimize(lambda x: ((x - 1) ** 4).sum(), torch.zeros(9).double(), "
    "method='gradient-normalized-secant')",
    space={"gamma": LogUniform(1e-3, 1e3), "memory": Choice((5, 10, 20))},
    name="gradient-normalized-secant",
)
def gradient_normalized_secant(*, gamma: float = 1.0, memory: int = 10) -> Method:
    """`gradient_normalized` with the L-BFGS matrix of the last pairs for ``H``, in its compact form.

    Deviations:
        1. The matrix is that of limited memory; systems with it are solved exactly.
        2. As 2 to 4 of `gradient_normalized`.
        3. 1e-16 in place of 1e-8 is added to ``gamma``: poor Hessians need larger shifts.

    Args:
        gamma: First radius.
        memory: Pairs kept.

    Returns:
        The method.
    """
    return Method(preconditioner=LBFGS(memory), step=GradientNormalized(gamma, 60, 1e-16))


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="second-order",
    paper=Paper(
        title="The conjugate gradient method and trust regions in large scale optimization",
        authors="Trond Steihaug",
        year=1983,
        venue="SIAM Journal on Numerical Analysis 20",
    ),
    purpose="Smooth minimization with Hessian products, convex or not, one evaluation a step.",
    claim="Globally convergent, superlinear near a solution, and steps along negative curvature are its own.",
    example="precond.minimize(lambda x: ((x - 1) ** 4).sum(), torch.zeros(9).double(), method='trust-region-newton')",
    space={"radius": LogUniform(1e-2, 1e2), "cap": LogUniform(0.05, 0.9)},
    name="trust-region-newton",
    aliases=("trust-ncg", "steihaug"),
)
def trust_region_newton(*, radius: float = 1.0, cap: float = 0.5) -> Method:
    """Newton-CG in a trust region.

    ``d`` minimizes ``g'd + d'Bd / 2`` within ``||d|| <= radius`` by conjugate gradients that stop at a residual of
    ``min(cap, sqrt(||g||)) ||g||``, at the boundary, or along non-positive curvature on the boundary. Radius and
    acceptance are Nocedal & Wright's (2006, algorithm 4.1): starting at 1, at most 1000, accepted above 0.15.

    Deviations:
        1. Constants are Nocedal & Wright's.
        2. Where values differ by rounding alone, a step that shortens the gradient is accepted.

    Args:
        radius: First radius.
        cap: Largest relative residual of an inner solve.

    Returns:
        The method.
    """
    return Method(preconditioner=Identity(), step=Steihaug(radius, max(1000.0, radius), cap=cap))


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="second-order",
    paper=Paper(
        title="Adaptive cubic regularisation methods for unconstrained optimization. Part I",
        authors="Coralia Cartis, Nicholas I. M. Gould, Philippe L. Toint",
        year=2011,
        venue="Mathematical Programming 127",
    ),
    purpose="Smooth minimization with Hessian products, convex or not, with the best known worst case.",
    claim="A second-order point in O(eps^(-3/2)) evaluations, and more reliable than trust regions on test problems.",
    example="precond.minimize(lambda x: ((x - 1) ** 4).sum(), torch.zeros(9).double(), method='adaptive-cubic')",
    space={"sigma": LogUniform(1e-3, 1e3), "kappa": LogUniform(1e-4, 0.5)},
    name="adaptive-cubic",
    aliases=("arc", "cubic"),
)
def adaptive_cubic(*, sigma: float = 1.0, kappa: float = 0.1) -> Method:
    """ARC: adaptive regularization by cubics, in a Krylov space.

    ``d`` minimizes ``g'd + d'Bd / 2 + (sigma / 3) ||d||^3`` over a Krylov space that grows until the model's gradient
    is at most ``kappa min(1, ||d||) ||g||``. ``sigma`` becomes ``max(min(sigma, ||g||), eps)`` where the decrease is
    above 0.9 of the model's, and doubles where it is below 0.1, when the step is refused.

    Deviations:
        1. ``kappa`` is 0.1 unless set; the paper's experiments stop inner solves by several rules.
        2. Lanczos vectors are orthogonalized fully, and the reduced problem is solved by its eigenvalues and bisection.
        3. Where values differ by rounding alone, a step that shortens the gradient is accepted.

    Args:
        sigma: First weight.
        kappa: Accuracy of the subproblem.

    Returns:
        The method.
    """
    return Method(preconditioner=Identity(), step=Cubic(sigma, kappa))
