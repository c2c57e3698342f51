"""Descendants of Shampoo: the square of its preconditioner, and the form that scales."""

from __future__ import annotations

from typing import Literal

from precond.core import BadInputError, Builds, Cadence, Choice, Kind, LogUniform, Method, Paper
from precond.filters.heavy_ball import HeavyBall
from precond.math.factors.root_methods import CoupledNewton, InverseRoot
from precond.preconditioners.blocked import Blocked
from precond.preconditioners.kronecker import Kronecker
from precond.preconditioners.merged import Merged
from precond.recipes.grafts import grafted
from precond.recipes.registry import recipe
from precond.recipes.states import State, floor_of, storage_of
from precond.steps.decay import Decoupled


@recipe(
    builds=Builds.METHOD,
    runs_on=frozenset({Kind.TRAINING, Kind.SMOOTH}),
    family="matrix",
    paper=Paper(
        title="A New Perspective on Shampoo's Preconditioner",
        authors="Depen Morwani, Itai Shapira, Nikhil Vyas, Eran Malach, Sham Kakade, Lucas Janson",
        year=2024,
        arxiv="2406.17748",
        venue="ICLR 2025",
    ),
    purpose="Shampoo with the exponent that makes its factors nearly the best Kronecker product.",
    claim="The square of Shampoo's preconditioner is one round of power iteration from the optimal Kronecker product, "
    "and close to it on all data sets and architectures tried, unlike Shampoo's own.",
    example="precond.optim.ShampooSquared(model.parameters(), lr=0.1)",
    space={"lr": LogUniform(1e-2, 3.0), "momentum": Choice((0.0, 0.5, 0.9))},
    lr=0.1,
)
def shampoo_squared(
    *,
    momentum: float = 0.0,
    beta: float = 1.0,
    eps: float = 1e-4,
    every: int = 1,
    max_dim: int = 8192,
    factor_block: int | None = None,
    statistics: int = 1,
    half: bool = False,
    state: State = "full",
) -> Method:
    """Shampoo with exponent 1/2 and the trace in its place.

    For a matrix, ``L = eps I + sum G G^T``, ``R = eps I + sum G^T G`` and ``L x R / tr(L)`` is one step of power
    iteration, from the identity, towards the Kronecker product nearest to ``sum vec(G) vec(G)^T``; so
    ``w <- w - lr sqrt(tr L) L^(-1/2) G R^(-1/2)``, where Shampoo has ``L^(-1/4) G R^(-1/4)``. For ``k`` axes the
    factors are divided by their trace to the power ``1 - 1/k`` and raised to ``-1/2``. The options are those of
    `shampoo`.

    Deviations:
        1. With ``eps`` the traces of ``L`` and ``R`` differ a little; their geometric mean is taken.
        2. Heavy-ball momentum on the directions and ``beta < 1`` are options; the paper studies the preconditioner.
        3. Axes longer than ``max_dim`` are left as they are, and ``k`` counts the others.
        4. Weight decay, if any, is decoupled.
        5. With ``every > 1``, different tensors take their roots at different steps.
        6. A ``state`` other than ``"full"`` is rounded, and so are roots with ``half``; eigenvalues of rounded factors
           are raised to ``2^-8`` of the largest.
    """
    return Method(
        preconditioner=Kronecker(
            beta**statistics,
            eps,
            exponent=-0.5,
            max_dim=max_dim,
            floor=floor_of(state) or None,
            trace_scale=True,
            block=factor_block,
            half=half,
        ),
        smoothing=HeavyBall(momentum) if momentum else None,
        decay=Decoupled(),
        cadence=Cadence(every=every, statistics=statistics),
        storage=storage_of(state),
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=frozenset({Kind.TRAINING, Kind.SMOOTH}),
    family="matrix",
    paper=Paper(
        title="Scalable Second Order Optimization for Deep Learning",
        authors="Rohan Anil, Vineet Gupta, Tomer Koren, Kevin Regan, Yoram Singer",
        year=2020,
        arxiv="2002.09018",
    ),
    purpose="Shampoo for large networks: roots now and then and without eigendecompositions, step sizes of SGD or "
    "AdaGrad.",
    claim="Trains ResNet-50 on ImageNet to 75.9 % at batch size 32768 in 31 % fewer steps than the best first-order "
    "method.",
    example='precond.optim.ScalableShampoo(model.parameters(), lr=0.1, graft="adagrad")',
    space={"lr": LogUniform(1e-3, 1.0), "momentum": Choice((0.0, 0.9, 0.95)), "graft": Choice(("sgd", "adagrad"))},
    lr=0.1,
)
def scalable_shampoo(
    *,
    momentum: float = 0.9,
    nesterov: bool = True,
    beta: float = 1.0,
    eps: float = 1e-6,
    graft: Literal["sgd", "adagrad"] = "sgd",
    graft_eps: float = 1e-6,
    exponent: float | None = None,
    every: int = 1,
    start: int = 1,
    block: int = 128,
    root: InverseRoot | None = None,
    max_dim: int = 8192,
    state: State = "full",
) -> Method:
    """Shampoo with grafting, merged axes, and delayed roots by coupled Newton iterations.

    Neighbouring axes are merged from left to right while their product stays within ``block``; what is then a vector
    has no factor, and longer axes are cut into tiles with factors of their own; axes longer than ``max_dim`` are
    neither cut nor given factors. For the ``k`` axes of the others ``A_i <- A_i + G_i G_i^T``
    (``beta A_i + (1 - beta) G_i G_i^T`` for ``beta < 1``) from ``eps I``, and every ``every`` steps
    ``P_i = (A_i + eps lambda_max(A_i) I)^(-1/2k)``, or to the power ``exponent``, by

        ``X = z^(1/p) I``, ``M = z A`` with ``z = (1 + p) / (2 ||A||_F)``, then ``T = ((p + 1) I - M) / p``,
        ``X <- X T``, ``M <- T^p M``.

    ``U = G x_1 P_1 ... x_k P_k`` gets the norm of ``D = G``, or ``D = G / (sqrt(sum G^2) + graft_eps)``; before step
    ``start`` it is ``D`` itself. ``b <- momentum b + U``, ``w <- w - lr (U + momentum b)`` (Nesterov).

    Deviations:
        1. Long axes are cut evenly; the published code cuts them into blocks and a smaller rest.
        2. Weight decay, if any, is decoupled; the published code adds it after grafting, into the momentum.
        3. The velocity is one; the published code keeps another one of ``D`` for the steps before ``start``.
        4. The ridge does not accumulate in the factors, nor does Nesterov's step in the velocity, as they do in the
           published PyTorch code, and factors of a single entry have roots too.
        5. ``eps`` is 1e-6, what single precision can invert, where the code has 1e-12; ``lr`` 0.1 where it has 1.
        6. With ``every > 1``, different tensors take their roots at different steps, the first at step 1.
        7. The published code cuts axes of any length; ``max_dim`` bounds time and state for tables of embeddings, whose
           short axis keeps its factor.
        8. ``state`` says in how many bits the state rests, as in `soap`; other than ``"full"`` it is rounded.
    """
    if graft not in ("sgd", "adagrad"):
        raise BadInputError(f"graft must be 'sgd' or 'adagrad', not {graft!r}")
    factors = Kronecker(beta, eps, exponent, max_dim, root=root or CoupledNewton(ridge=eps), vectors=False)
    return Method(
        preconditioner=grafted(Merged(Blocked(block, factors, max_dim), block), graft, eps=graft_eps, start=start),
        smoothing=HeavyBall(momentum, nesterov=nesterov) if momentum else None,
        decay=Decoupled(),
        cadence=Cadence(every=every),
        storage=storage_of(state),
    )
