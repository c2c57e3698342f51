"""Methods for nonlinear programs: an objective under equations and inequalities."""

from __future__ import annotations

from typing import Literal

from precond.core import BadInputError, Builds, Iteration, Kind, Paper, ProgramIteration
from precond.krylov.dense import Dense
from precond.krylov.gmres import GMRES
from precond.krylov.minres import MINRES
from precond.krylov.sketch_project import SketchProject
from precond.programs.accuracy import Prescribed, Tested
from precond.programs.augmented import AugmentedLagrangian
from precond.programs.curvature import FrobeniusShift
from precond.programs.directions import Iterated
from precond.programs.hessian_sketch import HessianSketch
from precond.programs.interior_point import InteriorPoint
from precond.programs.sketched_newton import SketchedNewton
from precond.recipes.registry import recipe

_HONG = Paper(
    title="Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative Sketching",
    authors="Ilgee Hong, Sen Na, Michael W. Mahoney, Mladen Kolar",
    year=2023,
    arxiv="2305.18379",
    venue="ICML 2023",
)
_CALL = "precond.minimize(lambda x: (x**2).sum(), torch.ones(3).double(), constraints=lambda x: x.sum()[None] - 1"

Inner = Literal["sketch", "rows", "dense", "minres", "gmres"]
Proposer = Literal["hessian-sketch", "sketch", "rows", "dense", "minres", "gmres"]


def _inner(name: Inner, size: int | None, seed: int) -> Iteration:
    solvers: dict[str, Iteration] = {
        "sketch": SketchProject(size, "gaussian", seed),
        "rows": SketchProject(size or 1, "rows", seed),
        "dense": Dense(),
        "minres": MINRES(),
        "gmres": GMRES(),
    }
    if name not in solvers:
        raise BadInputError(
            f"inner must be one of {', '.join(solvers)} (or 'hessian-sketch' in sketched_newton), not {name!r}"
        )
    return solvers[name]


@recipe(
    builds=Builds.PROGRAM,
    runs_on=Kind.PROGRAM,
    family="constrained",
    paper=_HONG,
    purpose="Equality constraints, with Newton systems solved by random sketches to an accuracy chosen on the way.",
    claim="Converges globally and superlinearly with inexact, randomized inner solves, on fewer evaluations than "
    "methods with an l1 merit function.",
    example=f"{_CALL}, method='adasketch-newton')",
    aliases=("adasketch",),
)
def adasketch_newton(
    *,
    inner: Inner = "sketch",
    size: int | None = None,
    seed: int = 0,
    eta1: float = 1.0,
    eta2: float = 0.1,
    delta: float = 0.1,
    growth: float = 1.5,
    armijo: float = 0.1,
    threshold: float = 1e-6,
    order: float = 0.0,
) -> ProgramIteration:
    """AdaSketch-Newton-GALA: the paper's rules of accuracy and penalties.

    With ``M = f + lambda' c + eta1/2 ||c||^2 + eta2/2 ||grad_x L||^2``, ``Gamma = [[B, J'], [J, 0]]`` and
    ``B = hess_x L + t I``:

    1. ``t = 0.1 + ||hess_x L||`` where the reduced Hessian has an eigenvalue below ``threshold``, else 0.
    2. Sketch and project on ``Gamma z = -grad L`` until ``||Gamma|| Psi ||r|| <= theta delta ||grad L||``, with
       ``Psi = 20 max(||B||^2, 1) / (min(xi, 1) 0.1)``, ``xi`` the least eigenvalue of ``J J'``, and ``delta`` at most
       ``(1/2 - armijo) eta2 / ((1 + eta1 + eta2) Upsilon^2 Psi^2)``, but not below 1e-6.
    3. While ``<grad M, z> > -eta2/2 ||grad L||^2``: ``eta1 <- nu^2 eta1``, ``eta2 <- eta2 / nu``,
       ``delta <- delta / nu^4``, and the inner solve goes on from where it is.
    4. Halve the step from 1 until ``M`` falls by ``armijo`` times the step times the slope.

    Deviations:
        1. The slope of ``M`` uses the Hessian of the Lagrangian, as the derivative does; the published code has the
           Hessian of the objective there.
        2. The residual of the inner solve starts as ``+grad L``, consistently with its recurrence; the published code
           starts with the other sign.
        3. Multipliers start at their least-squares fit, where the code starts at zero or one.
        4. Sketches have ``size`` columns, half of the equations unless given, where the paper's experiments take one
           (``inner="rows"`` is that, with uniform rows).
        5. The eigenvalue test of step 1 reads the inertia of a factorization, not an eigendecomposition of ``Z' H Z``.
        6. Sketches act on the equilibrated system, which converges in far fewer; its residual is measured unscaled.
        7. A system that 2000 sketches have not solved well enough is factorized, the next one after half as many; the
           published code sketches on, up to a hundred thousand times.
        8. The line search forgives ten units of rounding of the merit, and gives up below steps of 1e-14.
        9. Where it gives up, or three steps in a row are shorter than 1/20, the violation is reduced alone, to a tenth
           if it can be; multipliers, penalties and accuracies start anew from there, at most ten times.
        10. The published code stops where ``xi < 1e-2``. Here ``xi`` is not taken below that; where the rows of ``J``,
           made unit vectors, have a singular value below 1e-8, ``-1e-8 I`` is put into the second block of ``Gamma``,
           and multipliers above 1e6 are fitted anew.

    Args:
        inner: What solves the Newton systems: Gaussian sketches, sampled rows, or a deterministic solver.
        size: Columns of a sketch.
        seed: Seed of the sketches.
        eta1: First penalty on the constraints.
        eta2: First penalty on the gradient of the Lagrangian.
        delta: First accuracy.
        growth: ``nu``.
        armijo: Sufficient decrease.
        threshold: Least eigenvalue that the reduced Hessian may have unshifted.
        order: ``theta = min(1, ||grad L||^order)``; above zero convergence is superlinear.

    Returns:
        The iteration.
    """
    return SketchedNewton(
        Iterated(_inner(inner, size, seed), FrobeniusShift(threshold)),
        Prescribed(delta, armijo, growth, order=order), eta1, eta2, growth, armijo,
    )  # fmt: skip


@recipe(
    builds=Builds.PROGRAM,
    runs_on=Kind.PROGRAM,
    family="constrained",
    paper=_HONG,
    purpose="Equality constraints on large regressions and dense Hessians: sketches precondition, descent accepts.",
    claim="Sharpening the accuracy with convergence makes local convergence superlinear.",
    example=f"{_CALL}, method='sketched-newton')",
)
def sketched_newton(
    *,
    inner: Proposer = "hessian-sketch",
    size: int | None = None,
    seed: int = 0,
    start: float = 0.03,
    order: float = 1.0,
    eta1: float = 1.0,
    eta2: float = 0.1,
) -> ProgramIteration:
    """Newton's method on the exact augmented Lagrangian, as accurate as descent requires.

    As `adasketch_newton`, but the inner solve stops at ``||r|| <= min(start, ||grad L||^order) ||grad L||``; where the
    step found is no direction of descent the bound is divided by ten, and only at the end of that the penalties change.

    Deviations:
        1. The bounds on the accuracy, which the paper derives from estimates of ``||Gamma^-1||``, are replaced by the
           test of descent that they are there to ensure.
        2. The Hessian is shifted by the first of ``1e-4 * 8^k`` that makes it positive definite on the tangent space,
           where the published code adds its Frobenius norm.
        3. Unless ``inner`` says so the equations are not sketched, but the Hessian: its sketch with the constraints is
           factorized, and preconditions GMRES on the system itself, for as long as the iterates settle. The inertia
           that tells the shift is that of the sketch. Dependent constraints are regularized then.
        4. See `adasketch_newton` for the others.

    Args:
        inner: What solves the Newton systems: `precond.programs.hessian_sketch.HessianSketch`, or what
            `adasketch_newton` takes.
        size: Columns of a sketch of the equations.
        seed: Seed of the sketches.
        start: Largest relative residual of the inner solve.
        order: Power of ``||grad L||`` that bounds it near a solution.
        eta1: First penalty on the constraints.
        eta2: First penalty on the gradient of the Lagrangian.

    Returns:
        The iteration.
    """
    directions = HessianSketch(seed) if inner == "hessian-sketch" else Iterated(_inner(inner, size, seed))
    return SketchedNewton(directions, Tested(start, order), eta1, eta2)


@recipe(
    builds=Builds.PROGRAM,
    runs_on=Kind.PROGRAM,
    family="constrained",
    paper=Paper(
        title="On the implementation of an interior-point filter line-search algorithm for large-scale nonlinear "
        "programming",
        authors="Andreas Waechter, Lorenz T. Biegler",
        year=2006,
        venue="Mathematical Programming 106",
    ),
    purpose="Equations, inequalities and bounds, from bad starting points and with dependent constraints.",
    claim="More robust than methods with merit functions on the CUTEst collection.",
    example=f"{_CALL}, bounds=[(0, None)] * 3, method='interior-point')",
)
def interior_point(*, mu: float = 0.1, tau: float = 0.99) -> ProgramIteration:
    """A primal-dual interior-point method with a filter line search.

    Newton's method on the optimality conditions of ``min f - mu sum log(x - l) - mu sum log(u - x)``, ``c = 0``, with
    ``mu <- min(0.2 mu, mu^1.5)`` once they hold to ``10 mu``. The system is shifted until its inertia is right; steps
    keep to 99 % of the distance to bounds, and are accepted by a filter of violation and objective, after at most four
    second-order corrections; where none is, the violation is reduced until the filter accepts. Without bounds this is a
    filter Newton method for equality constraints.

    Deviations:
        1. The violation is reduced by scaled Levenberg-Marquardt steps, and by this method, with its square as the
           objective, where these stall; the paper minimizes its sum of absolute values. Before a point counts as
           infeasible long, curved and random steps are tried.
        2. Systems are equilibrated before their inertia is read, and the second block is shifted wherever this
           alone makes the inertia right.
        3. Bounds are relaxed by a tenth of the tolerance at most, all together; the limit on the violation is 1e4 times
           the initial one in each barrier problem.
        4. Large systems are factorized with pivots from the diagonal, if they are sparse; otherwise conjugate gradients
           on the null space of the Jacobian solve them to five digits.
        5. After three short steps that hardly reduce the violation it is reduced first, to a tenth.
        6. The weight of the barrier falls below a hundredth of the tolerance where complementarity asks for it.
        7. Near a solution, where values differ by rounding alone, a step that shrinks the residuals is accepted.
        8. Where no step is accepted at a feasible point the next barrier problem is tried.
        9. Constraints whose values and gradients are below 1/100 at the start are multiplied up to that.
        10. Corrections go on while each halves the violation of the step that it corrects, so that long steps along
           curved constraints may be corrected; in the paper already the first must leave less than was at the start.

    Args:
        mu: First weight of the barrier.
        tau: Least share of the distance to a bound that a step may take.

    Returns:
        The iteration.
    """
    return InteriorPoint(mu, tau)


@recipe(
    builds=Builds.PROGRAM,
    runs_on=Kind.PROGRAM,
    family="constrained",
    paper=Paper(
        title="Multiplier and gradient methods",
        authors="Magnus R. Hestenes",
        year=1969,
        venue="Journal of Optimization Theory and Applications 4",
    ),
    purpose="The baseline for equality constraints: unconstrained subproblems, multipliers from their residuals.",
    claim="Converges without the penalty tending to infinity.",
    example=f"{_CALL}, method='augmented-lagrangian')",
    aliases=("method-of-multipliers", "alm"),
)
def augmented_lagrangian(*, mu: float = 1.0, growth: float = 1.5, accuracy: float = 0.1) -> ProgramIteration:
    """The method of multipliers: ``x`` minimizes ``f + lambda' c + mu/2 ||c||^2``, then ``lambda <- lambda + mu c``.

    Deviations:
        1. Subproblems are solved to ``accuracy``, divided by ten each time, by Newton's method with a shift.
        2. The penalty grows where the violation has not fallen to a quarter.

    Args:
        mu: First penalty.
        growth: Factor of the penalty.
        accuracy: Accuracy of the first subproblem.

    Returns:
        The iteration.
    """
    return AugmentedLagrangian(mu, growth, accuracy)
