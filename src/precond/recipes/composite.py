"""Methods for composite problems: a smooth function plus a penalty."""

from __future__ import annotations

from typing import Literal

from precond.core import BadInputError, Builds, Choice, CompositeIteration, Kind, Paper
from precond.proximal.accelerated import AcceleratedGradient, Damping, OptimalDamping, PolynomialDamping
from precond.proximal.fista import FISTA, ProximalGradient
from precond.proximal.newton import ProximalNewton
from precond.recipes.registry import recipe

_CALL = (
    "precond.minimize(precond.losses.LeastSquares(torch.eye(3).double(), [3.0, 0.5, 0.1]), torch.zeros(3).double(), "
    "penalty=precond.penalties.{penalty}, method='{name}')"
)


@recipe(
    builds=Builds.COMPOSITE,
    runs_on=Kind.COMPOSITE,
    family="composite",
    paper=Paper(
        title="Accelerated gradient methods for sparse statistical learning with nonconvex penalties",
        authors="Kai Yang, Masoud Asgharian, Sahir Bhatnagar",
        year=2024,
        arxiv="2009.10629",
        venue="Statistics and Computing",
    ),
    purpose="SCAD and MCP penalties with any smooth loss, by gradients alone.",
    claim="Fewer evaluations of the gradient than proximal gradient and the original accelerated sequence.",
    example=_CALL.format(penalty="SCAD(0.1, a=3.7)", name="accelerated-gradient"),
    space={"damping": Choice(("optimal", "polynomial"))},
)
def accelerated_gradient(
    *, damping: Literal["optimal", "polynomial"] = "optimal", restart: bool = False
) -> CompositeIteration:
    """The accelerated gradient method on ``f + q + lam ||.||_1``, where ``q`` is the penalty's smooth, concave part.

    With ``h = f + q``, ``L = max(L_f, 1/(a-1))`` (SCAD) or ``max(L_f, 1/gamma)`` (MCP), ``omega = 0.99 / L``:

    1. ``alpha_1 = 1``, ``alpha_k = 2 / (1 + sqrt(1 + 4/alpha_{k-1}^2))``, ``lambda_k = omega / alpha_k``.
    2. ``m = (1 - alpha_k) a + alpha_k x``, ``G = grad h(m)``.
    3. ``x <- S(x - lambda_k G, lambda_k lam)`` and ``a <- S(m - omega G, omega lam)``; ``a`` is the answer.

    ``damping="polynomial"`` is Ghadimi and Lan's ``alpha_k = 2/(k+1)``, ``lambda_k = k omega / 2``, for comparison.

    Deviations:
        1. Step 3 moves ``x`` from ``x``, as the published package does.
        2. ``L_f`` is what the loss knows, or one difference of gradients, doubled where a step shows that it is too
            small.
        3. It ends when the distance to stationarity at ``a``, checked with a gradient, is within the tolerance, rather
           than when ``m`` moves little.
        4. ``restart`` sets ``alpha`` to 1 once three steps have passed and ``m`` moved less than before; the package's
           restart, off by default.

    Args:
        damping: The sequences ``alpha_k`` and ``lambda_k``.
        restart: Start the sequences afresh where ``m`` slows down.

    Returns:
        The iteration.
    """
    known: dict[str, Damping] = {"optimal": OptimalDamping(), "polynomial": PolynomialDamping()}
    if damping not in known:
        raise BadInputError(f"damping must be one of {', '.join(known)}, not {damping!r}")
    return AcceleratedGradient(known[damping], restart)


@recipe(
    builds=Builds.COMPOSITE,
    runs_on=Kind.COMPOSITE,
    family="composite",
    paper=Paper(
        title="A fast iterative shrinkage-thresholding algorithm for linear inverse problems",
        authors="Amir Beck, Marc Teboulle",
        year=2009,
        venue="SIAM Journal on Imaging Sciences 2",
    ),
    purpose="Any penalty with a proximal map and any smooth loss, by gradients alone.",
    claim="The objective is within O(1/k^2) of the optimum.",
    example=_CALL.format(penalty="L1(0.1)", name="fista"),
    space={"restart": Choice((True, False))},
)
def fista(*, restart: bool = True) -> CompositeIteration:
    """The accelerated proximal gradient method.

    ``x_k = prox(y_k - grad f(y_k) / L)``, ``t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2``,
    ``y_{k+1} = x_k + (t_k - 1) / t_{k+1} (x_k - x_{k-1})``.

    Deviations:
        1. ``t`` starts afresh where ``<y_k - x_k, x_k - x_{k-1}> > 0`` (O'Donoghue and Candes, 2015).
        2. ``L`` doubles in the backtracking, from one difference of gradients; a loss may know a bound.

    Args:
        restart: Whether momentum starts afresh.

    Returns:
        The iteration.
    """
    return FISTA(restart)


@recipe(
    builds=Builds.COMPOSITE,
    runs_on=Kind.COMPOSITE,
    family="composite",
    paper=Paper(
        title="A generalized proximal point algorithm for certain non-convex minimization problems",
        authors="Masao Fukushima, Hisashi Mine",
        year=1981,
        venue="International Journal of Systems Science 12",
    ),
    purpose="The baseline for penalties: proximal gradient steps without momentum.",
    claim="Every accumulation point is stationary, also where the smooth part is not convex.",
    example=_CALL.format(penalty="MCP(0.1, gamma=3.0)", name="proximal-gradient"),
)
def proximal_gradient() -> CompositeIteration:
    """The proximal gradient method, ``x <- prox(x - grad f(x) / L)``.

    Deviations:
        1. ``L`` is what the loss knows, or found by doubling and falls by a tenth after each step.

    Returns:
        The iteration.
    """
    return ProximalGradient()


@recipe(
    builds=Builds.COMPOSITE,
    runs_on=Kind.COMPOSITE,
    family="composite",
    paper=Paper(
        title="Proximal Newton-type methods for minimizing composite functions",
        authors="Jason D. Lee, Yuekai Sun, Michael A. Saunders",
        year=2014,
        arxiv="1206.1623",
        venue="SIAM Journal on Optimization 24",
    ),
    purpose="Sparse solutions of problems with any smooth loss, in few gradients.",
    claim="Converges superlinearly where the subproblems are solved accurately enough.",
    example=_CALL.format(penalty="SCAD(0.1)", name="prox-newton"),
)
def prox_newton(*, least: int = 10, limit: int = 1000) -> CompositeIteration:
    """The proximal Newton method: ``x <- x + argmin_d grad f(x)' d + d' H d / 2 + g(x + d)``.

    Deviations:
        1. ``d`` is zero outside of a working set: the support, and as many of the variables that violate optimality
           most, as skglm chooses it (Bertrand et al., arXiv 2204.07826).
        2. Instead of a line search, ``H`` is shifted until the objective falls by ``1e-4`` of what the model promises,
           so that penalties need not be convex.
        3. ``H`` is the Hessian at an earlier point while it predicts the gradient to a tenth of the slack.

    Args:
        least: Smallest number of variables that may join the working set.
        limit: Largest working set.

    Returns:
        The iteration.
    """
    return ProximalNewton(least, limit)
