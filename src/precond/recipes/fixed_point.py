"""Iterations for fixed points of nonexpansive maps, with or without one."""

from __future__ import annotations

from precond.core import Builds, FixedPointIteration, Kind, Paper
from precond.fixed.anderson import Anderson
from precond.fixed.halpern import Halpern
from precond.fixed.paired import Paired
from precond.fixed.picard import Picard
from precond.recipes.registry import recipe

_PARK = Paper(
    title="Accelerated Infeasibility Detection of Constrained Optimization and Fixed-Point Iterations",
    authors="Jisun Park, Ernest K. Ryu",
    year=2023,
    arxiv="2303.15876",
    venue="ICML 2023",
)
_CALL = "precond.fixed_point(lambda x: 0.5 * x + 1, torch.zeros(3).double(), method='{name}')"


@recipe(
    builds=Builds.FIXED_POINT,
    runs_on=Kind.FIXED_POINT,
    family="fixed-point",
    paper=_PARK,
    purpose="Fixed points of nonexpansive maps, and the displacement where there is none, at the optimal rate.",
    claim="The normalized iterates approach the infimal displacement vector at the rate O(1/k^2), which is optimal.",
    example=_CALL.format(name="halpern"),
)
def halpern() -> FixedPointIteration:
    """Halpern's iteration, ``x_{k+1} = x_0 / (k+2) + (k+1)/(k+2) T(x_k)``.

    ``2 (x_0 - x_k) / k`` and ``x_k - T(x_k)`` tend to the infimal displacement vector.

    Deviations: none.

    Returns:
        The iteration.
    """
    return Halpern()


@recipe(
    builds=Builds.FIXED_POINT,
    runs_on=Kind.FIXED_POINT,
    family="fixed-point",
    paper=Paper(
        title="The asymptotic behavior of nonlinear contraction semigroups",
        authors="Ronald E. Bruck, Simeon Reich",
        year=1977,
        venue="Houston Journal of Mathematics 3 (Nonexpansive projections and resolvents of accretive operators)",
    ),
    purpose="The baseline: the map again and again.",
    claim="Differences of the iterates of an averaged map tend to the infimal displacement vector.",
    example=_CALL.format(name="picard"),
)
def picard(*, relaxation: float = 1.0) -> FixedPointIteration:
    """Picard's iteration, ``x_{k+1} = (1 - theta) x_k + theta T(x_k)``.

    Deviations: none.

    Args:
        relaxation: ``theta``; below one for maps that are nonexpansive and not averaged.

    Returns:
        The iteration.
    """
    return Picard(relaxation)


@recipe(
    builds=Builds.FIXED_POINT,
    runs_on=Kind.FIXED_POINT,
    family="fixed-point",
    paper=Paper(
        title="Globally Convergent Type-I Anderson Acceleration for Nonsmooth Fixed-Point Iterations",
        authors="Junzi Zhang, Brendan O'Donoghue, Stephen Boyd",
        year=2020,
        arxiv="1808.03971",
        venue="SIAM Journal on Optimization 30",
    ),
    purpose="Fixed points of maps that contract slowly, from differences of the last images.",
    claim="Converges from anywhere for nonexpansive maps, and most often much faster than the map alone.",
    example=_CALL.format(name="anderson"),
)
def anderson(*, memory: int = 10) -> FixedPointIteration:
    """Anderson's acceleration: ``x_{k+1} = T(x_k) - G gamma`` where ``||r_k - R gamma||`` is least.

    ``G`` and ``R`` hold the last differences of images and residuals ``r = x - T(x)``. A point is kept if its residual
    is at most ``10 ||r_0|| / (accepted + 1)^(1 + 1e-6)``; otherwise the memory is emptied and ``T(x_k)`` is taken.

    Deviations:
        1. Type II, with a regularized least-squares problem, safeguarded as the paper's type I is.
        2. The constant of the safeguard is 10, where the paper has 1e6.

    Args:
        memory: Differences that are kept.

    Returns:
        The iteration.
    """
    return Anderson(memory)


@recipe(
    builds=Builds.FIXED_POINT,
    runs_on=Kind.FIXED_POINT,
    family="fixed-point",
    paper=_PARK,
    purpose="Fixed points, or proofs that there are none, whichever comes first: three iterations in turn.",
    claim="The residuals of both tend to the infimal displacement vector.",
    example=_CALL.format(name="paired"),
)
def paired(*, memory: int = 10) -> FixedPointIteration:
    """Anderson's acceleration at every other evaluation; Halpern's iteration and the map alone share the rest.

    All three go from the same start and know nothing of each other. Acceleration is fastest where the map is smooth;
    the map alone ends at programs with faces of solutions, where acceleration wanders.

    Deviations:
        1. The paper runs Halpern's iteration alone, which ends at its rate where a fixed point exists.

    Args:
        memory: Differences that Anderson's acceleration keeps.

    Returns:
        The iteration.
    """
    return Paired(Anderson(memory), Paired(Halpern(), Picard()))
