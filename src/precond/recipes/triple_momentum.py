"""The triple momentum method."""

from __future__ import annotations

from precond.core import BadInputError, Builds, Kind, LogUniform, Method, Paper
from precond.filters.quasi_hyperbolic import QuasiHyperbolic
from precond.preconditioners.identity import Identity
from precond.recipes.registry import recipe
from precond.steps.decay import Coupled
from precond.steps.scaled import Scaled


@recipe(
    builds=Builds.METHOD,
    runs_on=frozenset({Kind.TRAINING, Kind.SMOOTH}),
    family="first-order",
    paper=Paper(
        title="The Fastest Known Globally Convergent First-Order Method for Minimizing Strongly Convex Functions",
        authors="Bryan Van Scoy, Randy A. Freeman, Kevin M. Lynch",
        year=2018,
        venue="IEEE Control Systems Letters 2(1)",
    ),
    purpose="Smooth strongly convex minimization by gradients alone, where both bounds of the curvature are known.",
    claim="Errors shrink by 1 - sqrt(m/L) in every step, on every function with curvatures between m and L; Nesterov's "
    "method is only known to shrink them by sqrt(1 - sqrt(m/L)), which takes twice as many steps.",
    example="precond.minimize(lambda x: (x[0] - 1) ** 2 + 25 * x[1] ** 2, torch.ones(2).double(), "
    "method=precond.recipes.triple_momentum.triple_momentum(condition=25), lr=1 / 50)",
    space={"lr": LogUniform(1e-3, 1.0), "condition": LogUniform(3.0, 1e4)},
    lr=0.1,
    aliases=("tmm",),
)
def triple_momentum(*, condition: float = 100.0) -> Method:
    """The triple momentum method for curvatures between ``m`` and ``L = condition m``, with learning rate ``1 / L``.

    With ``rho = 1 - sqrt(m / L)``, ``alpha = (1 + rho) / L``, ``beta = rho^2 / (2 - rho)`` and
    ``gamma = rho^2 / ((1 + rho) (2 - rho))``::

        xi_{k+1} = (1 + beta) xi_k - beta xi_{k-1} - alpha g(y_k),   y_k = (1 + gamma) xi_k - gamma xi_{k-1}

    The points ``y_k``, at which gradients are taken, are those of quasi-hyperbolic momentum: with
    ``nu = 2 rho / ((1 + rho) (2 - rho))``,

        u <- beta u + (1 - beta) g,   y <- y - (1/L) ((1 - nu) g + nu u) / (1 - nu)

    Weight decay is part of the function, and added to ``g``.

    Args:
        condition: ``L / m``, at least one; too small a number may make it diverge.

    Returns:
        The method.

    Deviations:
        1. It returns ``y_k``; the paper's output ``(1 + delta) xi_k - delta xi_{k-1}`` converges at the same rate.
    """
    if not 1.0 <= condition < float("inf"):
        raise BadInputError(f"the condition number must be finite and at least one, not {condition}")
    rho = 1.0 - condition**-0.5
    nu = 2.0 * rho / ((1.0 + rho) * (2.0 - rho))
    momentum = QuasiHyperbolic(1.0 - nu, rho**2 / (2.0 - rho))
    return Method(momentum=momentum, preconditioner=Identity(), step=Scaled(1.0 / (1.0 - nu)), decay=Coupled())
