"""Methods with second-order models that search along a line: Newton's and its relatives, limited-memory secants."""

from __future__ import annotations

from precond.core import Builds, Cadence, Choice, Kind, LogUniform, Method, Paper
from precond.krylov.cg import CG
from precond.preconditioners.dense_cholesky import DenseCholesky
from precond.preconditioners.diagonal_lbfgs import DiagonalLBFGS
from precond.preconditioners.identity import Identity
from precond.preconditioners.inverse_of import InverseOf, SquareRoot
from precond.preconditioners.lbfgs import LBFGS
from precond.preconditioners.sparse_cholesky import SparseCholesky
from precond.recipes.registry import recipe
from precond.steps.armijo import Armijo
from precond.steps.steihaug import Steihaug
from precond.steps.strong_wolfe import StrongWolfe


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
    aliases=("l-bfgs-b",),
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
        title="Some numerical experiments with variable-storage quasi-Newton algorithms",
        authors="J. Ch. Gilbert, C. Lemaréchal",
        year=1989,
        venue="Mathematical Programming 45",
    ),
    purpose="Smooth minimization with gradients alone where variables have different scales.",
    claim="A diagonal that is updated on the way is the appropriate initial matrix of a limited memory.",
    example="precond.minimize(lambda x: ((x - 1) ** 2).sum(), torch.zeros(9).double(), method='lbfgs-diagonal')",
    space={"memory": Choice((3, 5, 10, 20, 40)), "decay": Choice((0.9, 0.97, 0.99, 1.0))},
)
def lbfgs_diagonal(*, memory: int = 10, decay: float = 0.97, c1: float = 1e-4, c2: float = 0.9) -> Method:
    """L-BFGS started from a diagonal ``D`` wherever that explains the pairs better than the identity does.

    ``D_i = sqrt(sum_k w_k s_ki^2 / sum_k w_k y_ki^2)`` with ``w_k = decay^age / s_k'y_k``, times the number that makes
    ``s'y = y' D y`` for the newest pair. Each new pair is a test of the ``D`` before it: where the mean logarithm of
    ``(s's)(y'y) / ((s' D^-1 s)(y' D y))`` over the last ten or so is above 1, ``D`` is taken, and ``(s'y / y'y) I``
    elsewhere.

    Deviations:
        1. The paper updates ``D`` pair by pair, so that it fits the curvature along the newest ``y``; this ``D`` is
           free of the scales of the variables, and exact for separable quadratic functions.
        2. The paper always takes ``D``, which slows functions whose variables are coupled, on which the test says so.
        3. As 1 to 3 of `lbfgs`.

    Args:
        memory: Pairs kept.
        decay: What the sums keep at each pair.
        c1: Sufficient decrease.
        c2: Curvature.

    Returns:
        The method.
    """
    return Method(preconditioner=DiagonalLBFGS(LBFGS(memory), decay), step=StrongWolfe(c1, c2))


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
def newton_cholesky(*, cap: float = 0.2, free: int = 2, c1: float = 1e-4) -> Method:
    """Newton's method with a factored Hessian that is used again for as long as it is worth it.

    ``d`` comes from conjugate gradients on ``B d = -g``, stopped at ``||B d + g|| <= min(cap, sqrt(||g||)) ||g||`` and
    preconditioned by a Cholesky factor of the Hessian at this point or an earlier one. The Hessian of a regression, a
    function of ``A x`` for constant data ``A``, is assembled in one pass over the data, others from products with all
    unit vectors. It is assembled again when the products since have become as many as those that the last one took; in
    one pass over the data when those beyond ``free`` a step took 0.6 of the time of such a pass. The step shrinks from
    1 to sufficient decrease.

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
        title="On the Estimation of Sparse Hessian Matrices",
        authors="M. J. D. Powell, Ph. L. Toint",
        year=1979,
        venue="SIAM Journal on Numerical Analysis 16",
    ),
    purpose="Smooth minimization where few pairs of variables interact, from tens of variables to millions.",
    claim="A sparse Hessian takes few products, of a band of width 3 three, however many variables there are.",
    example="precond.minimize(lambda x: ((x - 1) ** 4).sum(), torch.zeros(40).double(), method='sparse-newton')",
    space={"cap": LogUniform(1e-3, 0.9)},
)
def sparse_newton(*, cap: float = 0.5) -> Method:
    """Newton's method with a sparse Hessian in a trust region.

    It begins as ``trust-region-newton``. Once a hundred products were spent, the pattern of the Hessian is found by
    others, and its columns are colored; then the entries at each point come from one product for each color, and one
    more checks them. Where it contradicts them the pattern is widened. A sparse factorization solves the systems, of a
    shifted matrix where the Hessian is not definite; it is the preconditioner, and the metric of the region, of
    conjugate gradients that follow negative curvature to the boundary.

    Deviations:
        1. The paper takes differences of gradients, here products are exact where ``fun`` is a torch function.
        2. The paper uses symmetry to color with fewer colors; here no row has two columns of one color, which needs no
           substitution and loses no digits by it. Rows that are nearly full are asked for one by one.
        3. The paper is about the matrix alone; the trust region is Steihaug's (1983).

    Args:
        cap: Largest relative residual of an inner solve.

    Returns:
        The method.
    """
    return Method(preconditioner=SparseCholesky(), step=Steihaug(radius=None, largest=1e100, cap=cap))


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
