"""Methods that approximate the Hessian of a deterministic objective: quasi-Newton and inexact Newton."""

from __future__ import annotations

from precond.core import Builds, Cadence, Choice, Kind, LogUniform, Method, Paper
from precond.krylov.cg import CG
from precond.preconditioners.dense_cholesky import DenseCholesky
from precond.preconditioners.dense_inverse import DenseInverse
from precond.preconditioners.identity import Identity
from precond.preconditioners.inverse_of import InverseOf, ShiftRelative, SquareRoot
from precond.preconditioners.lbfgs import LBFGS
from precond.recipes.registry import recipe
from precond.steps.armijo import Armijo
from precond.steps.cubic import Cubic
from precond.steps.gradient_normalized import GradientNormalized
from precond.steps.gradient_regularized import GradientRegularized
from precond.steps.steihaug import Steihaug
from precond.steps.strong_wolfe import StrongWolfe

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
        title="On the limited memory BFGS method for large scale optimization",
        authors="Dong C. Liu, Jorge Nocedal",
        year=1989,
        venue="Mathematical Programming 45",
    ),
    purpose="Smooth minimization with gradients alone, from a few variables to millions.",
    claim="Competitive with methods that use more storage, and globally convergent on uniformly convex functions.",
    example="precond.minimize(lambda x: ((x - 1) ** 2).sum(), torch.zeros(9).double(), method='lbfgs')",
    space={"memory": Choice((3, 5, 10, 20, 40)), "c2": Choice((0.9, 0.5, 0.1))},
)
def lbfgs(*, memory: int = 10, c1: float = 1e-4, c2: float = 0.9) -> Method:
    """L-BFGS with a strong Wolfe line search.

    ``d = -H g`` with ``H`` the BFGS inverse Hessian of the last ``memory`` pairs ``(s, y)``, started from
    ``(s'y / y'y) I`` of the newest pair (scaling M3 of the paper): ``H+ = V' H V + rho s s'``, ``V = I - rho y s'``,
    ``rho = 1 / s'y``. The step is tried at 1, and at ``min(1, 1 / ||g||_1)`` in the first iteration.

    Deviations:
        1. Pairs with ``s'y <= 1e-10 ||s|| ||y||`` are skipped (the paper's line search excludes them).
        2. The line search brackets and zooms (Nocedal & Wright 2006), where the paper used More & Thuente's code, and
           decides by slopes where values differ by rounding alone.
        3. After a failed search the memory is emptied once and steepest descent is tried.

    Args:
        memory: Pairs kept.
        c1: Sufficient decrease.
        c2: Curvature.

    Returns:
        The method.
    """
    return Method(preconditioner=LBFGS(memory), step=StrongWolfe(c1, c2))


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="second-order",
    paper=Paper(
        title="Truncated-Newton algorithms for large-scale unconstrained optimization",
        authors="Ron S. Dembo, Trond Steihaug",
        year=1983,
        venue="Mathematical Programming 26",
    ),
    purpose="Smooth minimization with Hessian products, convex or not.",
    claim="Superlinear convergence without solving any Newton system more accurately than it deserves.",
    example="precond.minimize(lambda x: ((x - 1) ** 4).sum(), torch.zeros(9).double(), method='newton-cg')",
    space={"cap": LogUniform(0.05, 0.9), "c1": LogUniform(1e-5, 1e-1)},
)
def newton_cg(*, cap: float = 0.5, c1: float = 1e-4) -> Method:
    """Line-search Newton-CG (also Nocedal & Wright, Numerical Optimization, 2006, Algorithm 7.1).

    ``d`` comes from conjugate gradients on ``B d = -g``, started at zero and stopped at
    ``||B d + g|| <= min(cap, sqrt(||g||)) ||g||``, or at non-positive curvature with the iterate so far (``-g`` in the
    first inner iteration). The step shrinks from 1 to sufficient decrease.

    Deviations:
        1. Non-positive curvature is ``p'Bp <= 0``, where the 1983 paper tests ``p'Bp < eps p'p``.
        2. The forcing term is Nocedal & Wright's; the 1983 paper allows any that vanishes with ``||g||``.
        3. Steps shrink by quadratic interpolation within [0.1, 0.5]; where values differ by rounding alone, a step
           that does not lengthen the gradient is accepted.

    Args:
        cap: Largest relative residual of an inner solve.
        c1: Sufficient decrease.

    Returns:
        The method.
    """
    return Method(preconditioner=InverseOf(CG(), Identity(), SquareRoot(cap)), step=Armijo(c1))


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
    paper=Paper(
        title="Inexact Newton Methods",
        authors="Ron S. Dembo, Stanley C. Eisenstat, Trond Steihaug",
        year=1982,
        venue="SIAM Journal on Numerical Analysis 19",
    ),
    purpose="Smooth minimization in up to some hundreds of variables, or some thousands of a regression.",
    claim="Converges at any rate from linear to quadratic, by the accuracy of the linear solves alone.",
    example="precond.minimize(lambda x: ((x - 1) ** 4).sum(), torch.zeros(9).double(), method='newton-cholesky')",
    space={"cap": LogUniform(1e-3, 0.9), "free": Choice((1, 2, 4, 8))},
)
def newton_cholesky(*, cap: float = 0.1, free: int = 2, c1: float = 1e-4) -> Method:
    """Newton's method with a factored Hessian that is used again for as long as it is worth it.

    ``d`` comes from conjugate gradients on ``B d = -g``, stopped at ``||B d + g|| <= min(cap, sqrt(||g||)) ||g||`` and
    preconditioned by a Cholesky factor of the Hessian at this point or an earlier one. The Hessian of a regression, a
    function of ``A x`` for constant data ``A``, is assembled in one pass over the data, others from products with all
    unit vectors. It is assembled again when the products since have become as many as those that the last one took,
    or in one pass over the data when a step takes more than ``free``. The step shrinks from 1 to sufficient decrease.

    Deviations:
        1. The paper leaves open how systems are solved; the factors are one choice of a preconditioner.
        2. Where the Hessian is not definite, its eigenvalues are replaced by their absolute values in the
           preconditioner, and negative curvature ends the inner solve.
        3. Steps and rounding are treated as in ``newton-cg``.

    Args:
        cap: Largest relative residual of an inner solve.
        free: Products of a step that call for no new factor where one takes a pass over the data.
        c1: Sufficient decrease.

    Returns:
        The method.
    """
    return Method(
        preconditioner=InverseOf(CG(), DenseCholesky(), SquareRoot(cap)), step=Armijo(c1), cadence=Cadence(free=free)
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.SMOOTH,
    family="second-order",
    paper=Paper(
        title="Identifying and attacking the saddle point problem in high-dimensional non-convex optimization",
        authors="Yann Dauphin, Razvan Pascanu, Caglar Gulcehre, Kyunghyun Cho, Surya Ganguli, Yoshua Bengio",
        year=2014,
        arxiv="1406.2572",
    ),
    purpose="Smooth minimization where a Hessian costs little more than a gradient: regressions in tens of variables.",
    claim="Leaves saddle points in directions of negative curvature, which Newton's method is drawn to.",
    example="precond.minimize(lambda x: ((x - 1) ** 4).sum(), torch.zeros(9).double(), method='newton')",
    aliases=("saddle-free-newton",),
)
def newton(*, c1: float = 1e-4) -> Method:
    """Newton's method with the absolute values of the Hessian's eigenvalues, ``d = -|B|^-1 g``, at every step.

    Where ``B`` is positive definite that is Newton's step, by one Cholesky factor. The step shrinks from 1 to
    sufficient decrease.

    Deviations:
        1. The paper's ``|B|`` lives in a Krylov space of the last steps and is damped; here it is the whole matrix, and
           eigenvalues at rounding are replaced by the smallest that counts.
        2. Absolute values are taken of ``B`` scaled to a unit diagonal, so that scales of the variables do not matter.
        3. A line search takes the place of the paper's choice among damping coefficients.

    Args:
        c1: Sufficient decrease.

    Returns:
        The method.
    """
    return Method(preconditioner=DenseCholesky(precise=True), step=Armijo(c1))


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
