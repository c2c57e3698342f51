"""Shampoo and SOAP whose factors estimate the second moment jointly: KL-Shampoo, KL-SOAP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from precond.core import Builds, Cadence, Choice, Kind, LogUniform, Method, Paper, Preconditioner, Route
from precond.filters.ema import EMA
from precond.preconditioners.blocked import Blocked
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.kullback_leibler import KLKronecker
from precond.preconditioners.merged import Merged
from precond.preconditioners.within import Within
from precond.recipes.registry import recipe
from precond.recipes.routes import hidden_and_rest
from precond.recipes.states import State, storage_of
from precond.steps.decay import DecoupledAfter

_PAPER = Paper(
    title="Understanding and Improving Shampoo and SOAP via Kullback-Leibler Minimization",
    authors="Wu Lin, Scott C. Lowe, Felix Dangel, Runa Eschenhagen, Zikun Xu, Roger B. Grosse",
    year=2025,
    arxiv="2509.03378",
    venue="ICLR 2026",
)


def _hidden(
    preconditioner: Preconditioner[Any], average: EMA, every: int, stagger: bool, merge: int | None, block: int | None,
    state: State,
) -> Method:  # fmt: skip
    """Return the method of matrices, which see merged axes and tiles of them."""
    preconditioner = preconditioner if block is None else Blocked(block, preconditioner)
    return Method(
        momentum=average,
        preconditioner=preconditioner if merge is None else Merged(preconditioner, merge),
        decay=DecoupledAfter(),
        cadence=Cadence(every=every, after=True, prime=True, stagger=stagger),
        storage=storage_of(state),
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=_PAPER,
    purpose="Shampoo with factors that are fitted to each other, without grafting and without Adam's second moments.",
    claim="Matches or exceeds SOAP in pre-training, at its time per step and without Adam's memory.",
    example="precond.optim.KLShampoo(model.named_parameters(), lr=1e-3)",
    space={"lr": LogUniform(1e-4, 3e-2), "b1": Choice((0.9, 0.95)), "b2": Choice((0.9, 0.95, 0.98))},
    lr=1e-3,
    weight_decay=0.01,
)
def kl_shampoo(
    *,
    b1: float = 0.9,
    b2: float = 0.98,
    eps: float = 1e-8,
    every: int = 10,
    max_dim: int = 10000,
    merge: int | None = None,
    block: int | None = None,
    start: float = 0.1,
    gain: float = 4000.0,
    stagger: bool = True,
    exclude: Sequence[str] = (),
    rest_b1: float = 0.9,
    rest_b2: float = 0.95,
    rest_scale: float = 1.0,
    state: State = "full",
) -> Route:
    """Shampoo by minimization of the Kullback-Leibler divergence.

    For an ``m x n`` matrix ``S_L <- b2 S_L + (1 - b2) / n G S_R^-1 G^T`` and ``S_R <- b2 S_R + (1 - b2) / m G^T S_L^-1
    G``, ``M <- b1 M + (1 - b1) G``, ``w <- w - lr S_L^(-1/2) M S_R^(-1/2)``, then ``w <- (1 - lr decay) w``. In place
    of decompositions there are bases and estimates of eigenvalues: ``G' = Q_L^T G Q_R``, ``l_i <- b2 l_i + (1 - b2) / n
    sum_j G'_ij^2 / r_j`` and likewise ``r``, from ``start``, and ``S_L^(-1/2) M S_R^(-1/2) = Q_L [M' / (sqrt(l r^T) +
    eps)] Q_R^T`` with the eigenvalues before this gradient. The first gradient finds ``Q`` by an eigendecomposition and
    takes no step; every ``every`` steps ``Q <- qr(S Q)``. Inverse roots of eigenvalues are at most ``max(10, min(n,
    gain))``. Tensors with more axes have one factor for each, every one weighted by all others.

    ``merge`` merges neighbouring axes up to this length, ``block`` cuts tensors into tiles (as in `shampoo`). Vectors,
    and parameters whose name matches ``exclude``, get AdamW with decays ``rest_b1``, ``rest_b2`` and ``rest_scale``
    times the learning rate.

    Deviations:
        1. With three axes the published code takes the eigenvalues of some axes after, of others before their update;
           here all are those before.
        2. The published code works in bfloat16 by default, here in float32 at least.
        3. Axes of length one have factors, too, of one entry, unless merged; the published code drops them.
        4. With ``stagger``, different tensors turn their bases at different steps, to spread the cost.
        5. ``state`` says in how many bits the state of the matrices rests, as in `soap`; the published code rounds
           nothing between steps.
        6. ``lr`` is ours; the published code has 1e-4, and no rule for vectors.
    """
    inner = KLKronecker(b2, eps, max_dim, start, gain)
    hidden = _hidden(inner, EMA(b1, debias=False), every, stagger, merge, block, state)
    return hidden_and_rest(hidden, exclude=exclude, scale=rest_scale, b1=rest_b1, b2=rest_b2)


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=_PAPER,
    purpose="SOAP in the bases of factors that are fitted to each other.",
    claim="Matches or exceeds SOAP in pre-training, at its time per step.",
    example="precond.optim.KLSOAP(model.named_parameters(), lr=3e-3)",
    space={"lr": LogUniform(1e-3, 3e-2), "b1": Choice((0.9, 0.95)), "weight_decay": Choice((0.0, 0.01, 0.1))},
    lr=3e-3,
    weight_decay=0.01,
)
def kl_soap(
    *,
    b1: float = 0.95,
    b2: float = 0.95,
    eps: float = 1e-8,
    every: int = 10,
    max_dim: int = 10000,
    merge: int | None = None,
    block: int | None = None,
    start: float = 0.1,
    gain: float = 4000.0,
    stagger: bool = True,
    exclude: Sequence[str] = (),
    rest_b1: float | None = None,
    rest_b2: float | None = None,
    rest_scale: float = 1.0,
    state: State = "full",
) -> Route:
    """SOAP by minimization of the Kullback-Leibler divergence.

    Factors, bases and eigenvalues are those of `kl_shampoo`; eigenvalues serve the factors alone. Instead of dividing
    by the roots of their products, Adam runs in the bases, as in `soap`: ``G' = Q_L^T G Q_R``,
    ``v <- b2 v + (1 - b2) G'^2``, ``w <- w - lr (sqrt(1 - b2^t) / (1 - b1^t)) Q_L [M' / (sqrt(v) + eps)] Q_R^T``,
    then ``w <- (1 - lr decay) w``. The first gradient finds ``Q`` and takes no step.

    Options and parameters left to AdamW as in `kl_shampoo`; ``rest_b1`` and ``rest_b2`` are ``b1`` and ``b2`` unless
    given.

    Deviations:
        1. The scaling, ``eps``, decays and the learning rate are those of `soap`, which the paper compares with.
        2. Bases turn by ``Q <- qr(S Q)`` without sorting their columns, as in `kl_shampoo`; SOAP's code sorts them.
        3. Those of `kl_shampoo`.
    """
    inner = Within(KLKronecker(b2, eps, max_dim, start, gain), Diagonal(b2, eps, eps_first=True))
    hidden = _hidden(inner, EMA(b1), every, stagger, merge, block, state)
    first, second = b1 if rest_b1 is None else rest_b1, b2 if rest_b2 is None else rest_b2
    return hidden_and_rest(hidden, exclude=exclude, scale=rest_scale, eps=eps, b1=first, b2=second)
