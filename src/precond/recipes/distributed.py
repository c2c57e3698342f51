"""Shampoo as it is run at scale: Distributed Shampoo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from precond.core import BadInputError, Builds, Cadence, Choice, Filter, Kind, LogUniform, Method, Paper, Preconditioner
from precond.filters.ema import EMA
from precond.filters.heavy_ball import HeavyBall
from precond.filters.lion import Interpolation
from precond.math.factors.root_methods import AdaptiveQR, Damped, InverseRoot
from precond.preconditioners.blocked import Blocked
from precond.preconditioners.kronecker import Kronecker
from precond.preconditioners.merged import Merged
from precond.recipes.grafts import Grafting, grafted
from precond.recipes.registry import recipe
from precond.recipes.states import State, floor_of, storage_of
from precond.steps.decay import Decoupled


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=Paper(
        title="A Distributed Data-Parallel PyTorch Implementation of the Distributed Shampoo Optimizer for Training "
        "Neural Networks At-Scale",
        authors="Hao-Jun Michael Shi, Tsung-Hsien Lee, Shintaro Iwasaki, Jose Gallego-Posada, Zhijing Li, Kaushik "
        "Rangadurai, Dheevatsa Mudigere, Michael Rabbat",
        year=2023,
        arxiv="2309.06497",
    ),
    purpose="Shampoo on merged and cut tensors, with the step lengths of a simpler method and roots that may fail.",
    claim="Trains ResNet-50 on ImageNet with at most 10 % more time per step than diagonal adaptive methods; won the "
    "external tuning track of AlgoPerf with 28 % faster training.",
    example='precond.optim.DistributedShampoo(model.parameters(), lr=1e-3, grafting="adam", precondition_frequency=10)',
    space={"lr": LogUniform(1e-4, 1e-1), "b2": Choice((0.95, 0.99, 1.0)), "graft": Choice(("none", "adagrad", "adam"))},
    lr=1e-2,
)
def distributed_shampoo(
    *,
    b1: float = 0.9,
    b2: float = 1.0,
    b3: float | None = None,
    eps: float = 1e-12,
    floor: float = 1e-6,
    graft: Grafting = "none",
    graft_b2: float = 0.999,
    graft_eps: float = 1e-10,
    every: int = 1,
    start: int | None = None,
    block: int = 1024,
    fewest_axes: int = 1,
    debias: bool = True,
    exponent: Mapping[int, float] | None = None,
    one_sided: bool = False,
    adaptive: float | None = None,
    tolerated: int | None = 3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    stagger: bool = True,
    max_dim: int = 8192,
    state: State = "full",
) -> Method:
    """Distributed Shampoo.

    Neighbouring axes are merged from right to left while their product stays within ``block`` and more than
    ``fewest_axes`` are left; longer axes are cut into tiles, and every tile is on its own. Axes longer than ``max_dim``
    are neither cut nor given factors. For its ``k`` axes
    ``A_i <- b2 A_i + (1 - b2) G_i G_i^T`` (a sum for ``b2 = 1``) from zero, and at step ``start`` and every ``every``
    steps from then on ``P_i = (A_i / (1 - b2^t) + eps I)^(-1/2k)``, or to the power ``exponent[k]``. Where an
    eigenvalue is still below ``eps``, the whole spectrum is lifted until the least one is ``eps``.

    ``G~ <- b1 G~ + (1 - b1) G``, ``M = (b3 G~_before + (1 - b3) G) / (1 - b3 b1^(t - 1))`` with ``b3 = b1`` unless
    given, which is Adam's momentum; ``D`` is ``M``, or ``M / (sqrt(V) + graft_eps)`` with ``V`` the second moments of
    AdaGrad, RMSProp or Adam; ``U = M x_1 P_1 ... x_k P_k ||D|| / ||U||``, and before step ``start`` ``U = D``; without
    grafting ``U`` keeps its length; ``w <- (1 - lr decay) w - lr U``, or with heavy-ball ``momentum`` of ``U``.

    With ``adaptive``, ``P_i`` comes from eigenvectors ``Q_i`` that are kept, and improved by one QR iteration only
    where the off-diagonal part of ``Q_i^T A_i Q_i`` exceeds this fraction of the whole (arXiv 2506.03595).

    A root that cannot be taken leaves the last one in use; after more than ``tolerated`` failures of a tile in a row
    the optimizer raises `RefreshError`. ``start`` is ``every`` unless given; ``one_sided`` gives only the shortest axis
    of each tile a factor.

    Deviations:
        1. Axes are cut evenly; the published code cuts them into blocks and a smaller rest.
        2. Weight decay does not pass through the heavy-ball momentum, as it does in the published code; the forms that
           are corrected for schedules, and averaging of iterates, are not offered.
        3. With ``stagger``, different tensors take their later roots at different steps, to spread the cost.
        4. A gradient that is not finite is left out, and a factor that is not finite counts as a failure; the published
           code raises at once.
        5. Eigenvectors are kept with that of the largest eigenvalue first. The published code keeps them in ascending
           order, in which each QR iteration may undo the one before.
        6. Eigenvalues below ``floor`` times the largest are raised to it; in single precision they are noise. 0 is the
           published code.
        7. Work and state are not distributed by this recipe; that is for the driver.
        8. The published code cuts axes of any length; ``max_dim`` bounds time and state for tables of embeddings.
        9. ``state`` says in how many bits the state rests, as in `soap`; other than ``"full"`` it is rounded, and
           ``floor`` is ``2^-8`` at least.
    """
    start = every if start is None else start
    if start < 1:
        raise BadInputError(f"the first step to precondition is 1 or later, not {start}")
    floor = max(floor, floor_of(state))
    take: InverseRoot = Damped(eps, floor) if adaptive is None else AdaptiveQR(adaptive, 1, eps, floor)
    factors: Preconditioner[Any] = Kronecker(
        b2,
        eps=0.0,
        exponent=_exponents(exponent),
        max_dim=max_dim,
        root=take,
        debias=debias,
        one_sided=one_sided,
        tolerated=tolerated,
    )
    tile = grafted(factors, graft, beta=graft_b2, eps=graft_eps, start=start)
    average: Filter[Any] | None = None
    if b1:
        average = EMA(b1, debias) if b3 is None or b3 == b1 else Interpolation(b3, b1, debias)
    return Method(
        momentum=average,
        preconditioner=Merged(Blocked(block, tile, max_dim), block, "right", fewest_axes),
        smoothing=HeavyBall(momentum, dampening, nesterov) if momentum else None,
        decay=Decoupled(),
        cadence=Cadence(every=every, start=start, stagger=stagger),
        storage=storage_of(state),
    )


def _exponents(exponent: Mapping[int, float] | None) -> tuple[tuple[int, float], ...] | None:
    """Return the overrides as pairs of a number of axes and a negative exponent."""
    if exponent is None:
        return None
    for axes, power in exponent.items():
        if not (axes >= 1 and power > 0):
            raise BadInputError(
                f"an override gives a number of axes a positive exponent of the inverse, not {axes}: {power}; tensors "
                "that are not to be preconditioned go to another method by a Route"
            )
    return tuple((axes, -float(power)) for axes, power in sorted(exponent.items()))
