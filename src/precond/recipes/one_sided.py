"""Methods with one factor per matrix: ASGO and its diagonal form."""

from __future__ import annotations

from collections.abc import Sequence

from precond.core import Builds, Cadence, Choice, Kind, LogUniform, Method, Paper, Route
from precond.filters.ema import EMA
from precond.math.factors.root_methods import CoupledQuintics, InverseRoot
from precond.preconditioners.columns import Columns
from precond.preconditioners.one_sided import OneSided
from precond.recipes.registry import recipe
from precond.recipes.routes import NOT_HIDDEN, hidden_and_rest
from precond.steps.decay import Decoupled
from precond.steps.match_rms import MatchRMS

_PAPER = Paper(
    title="ASGO: Adaptive Structured Gradient Optimization",
    authors="Kang An, Yuxing Liu, Rui Pan, Yi Ren, Shiqian Ma, Donald Goldfarb, Tong Zhang",
    year=2025,
    arxiv="2503.20762",
    venue="NeurIPS 2025",
)
_TEN_QUINTICS = CoupledQuintics()


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=_PAPER,
    purpose="Shampoo with one factor instead of two: half the roots, and theory that likes gradients of low rank.",
    claim="Converges faster than Shampoo in theory where gradients are of low rank or Hessians are block-diagonal, and "
    "does well in training language models.",
    example="precond.optim.ASGO(model.named_parameters(), lr=1e-2, weight_decay=0.1)",
    space={"lr": LogUniform(1e-3, 3e-2), "beta": Choice((0.8, 0.9, 0.95)), "weight_decay": Choice((0.0, 0.1))},
    lr=1e-2,
    weight_decay=0.1,
)
def asgo(
    *,
    momentum: float = 0.9,
    beta: float = 0.8,
    root: InverseRoot = _TEN_QUINTICS,
    every: int = 1,
    rms: float = 0.2,
    exclude: Sequence[str] = NOT_HIDDEN,
    rest_b1: float = 0.9,
    rest_b2: float = 0.95,
    rest_scale: float = 1.0,
) -> Route:
    """Adaptive structured gradient optimization.

    ``M <- momentum M + (1 - momentum) G``; with fewer rows than columns ``V <- beta V + (1 - beta) G G^T`` and
    ``U = V^(-1/2) M``, otherwise ``V <- beta V + (1 - beta) G^T G`` and ``U = M V^(-1/2)``;
    ``w <- (1 - lr decay) w - lr rms sqrt(rows columns) / ||U||_F U``. The root is taken by ten coupled quintics, which
    bound the gain of directions that ``V`` has not seen. Tensors with more than two axes are flattened to
    ``(out, -1)``.

    Vectors, and parameters whose name matches ``exclude``, get AdamW with decays ``rest_b1``, ``rest_b2`` and
    ``rest_scale`` times the learning rate.

    Deviations:
        1. The published code is followed where it departs from the paper's Algorithm 1, which sums ``V``, adds
           ``eps I`` to its root and does not scale the step.
        2. ``V`` is divided by a multiple of its own norm before the root, without the code's ``eps = 1e-10`` in the
           norm, so that small gradients are no special case. ``U = 0`` moves nothing.
        3. Where no root is found the last one stays in use; the published code takes the identity.
        4. Query and key projections are whole matrices, not split by head.
    """
    hidden = Method(
        momentum=EMA(momentum, debias=False),
        preconditioner=OneSided(beta, root),
        step=MatchRMS(rms),
        decay=Decoupled(),
        cadence=Cadence(every=every),
    )
    return hidden_and_rest(hidden, exclude=exclude, scale=rest_scale, b1=rest_b1, b2=rest_b2)


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=_PAPER,
    purpose="ASGO with a diagonal factor: one number per column, and no roots of matrices.",
    claim="Keeps much of the performance of ASGO at the memory of momentum alone.",
    example="precond.optim.DASGO(model.named_parameters(), lr=1e-3, weight_decay=0.1)",
    space={"lr": LogUniform(1e-4, 3e-2), "beta": Choice((0.9, 0.95, 0.99)), "weight_decay": Choice((0.0, 0.1))},
    lr=1e-3,
    weight_decay=0.1,
)
def dasgo(
    *,
    momentum: float = 0.9,
    beta: float = 0.95,
    eps: float = 1e-8,
    rms: float = 0.2,
    exclude: Sequence[str] = NOT_HIDDEN,
    rest_b1: float = 0.9,
    rest_b2: float = 0.95,
    rest_scale: float = 1.0,
) -> Route:
    """Diagonal adaptive structured gradient optimization.

    ``M <- momentum M + (1 - momentum) G``, ``v_j <- beta v_j + (1 - beta) sum_i G_ij^2``,
    ``U_ij = M_ij / sqrt(v_j + eps)``, ``w <- (1 - lr decay) w - lr rms sqrt(rows columns) / ||U||_F U``. Tensors with
    more than two axes are flattened to ``(out, -1)``; the rest of the parameters as in `asgo`.

    Deviations:
        1. The published code is followed, as in `asgo`. ``U = 0`` moves nothing.
    """
    hidden = Method(
        momentum=EMA(momentum, debias=False),
        preconditioner=Columns(beta, eps),
        step=MatchRMS(rms),
        decay=Decoupled(),
    )
    return hidden_and_rest(hidden, exclude=exclude, scale=rest_scale, b1=rest_b1, b2=rest_b2)
