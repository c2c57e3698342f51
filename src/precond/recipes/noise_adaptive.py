"""Methods that give each layer a learning rate by the noise of its gradient."""

from __future__ import annotations

from collections.abc import Sequence

from precond.core import Builds, Choice, Kind, LogUniform, Method, Paper, Route
from precond.filters.ema import EMA
from precond.optim.select import Matrices
from precond.preconditioners.polar import Polar
from precond.preconditioners.sign import Sign
from precond.recipes.registry import recipe
from precond.recipes.routes import NOT_HIDDEN
from precond.steps.decay import Decoupled
from precond.steps.noise_adaptive import NoiseAdaptive


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=Paper(
        title="Noise-Adaptive Layerwise Learning Rates: Accelerating Geometry-Aware Optimization for Deep Neural "
        "Network Training",
        authors="Jie Hao, Xiaochuan Gong, Jie Xu, Zhengdao Wang, Mingrui Liu",
        year=2025,
        arxiv="2510.14009",
    ),
    purpose="Muon in which layers with noisier gradients take shorter steps.",
    claim="Reaches the loss of D-Muon on LLaMA-1.1B with about 1.5x fewer tokens, at 4 % more time per step.",
    example="precond.optim.LANTON(model.named_parameters(), lr=0.02)",
    space={"lr": LogUniform(3e-3, 1e-1), "alpha": LogUniform(1e-2, 1e2), "momentum": Choice((0.9, 0.95))},
    lr=0.02,
)
def lanton(
    *,
    momentum: float = 0.95,
    alpha: float = 1.0,
    beta: float = 0.9,
    steps: int = 5,
    noise_steps: int = 5,
    exclude: Sequence[str] = NOT_HIDDEN,
    sign_scale: float = 0.015,
    independent: bool = False,
) -> Route:
    """Layer-wise noise-adaptive learning rates with operator norms.

    For each layer ``B <- momentum B + (1 - momentum) G``, ``H <- beta H + (1 - beta) ||G - G_previous||_*^2``,
    ``a = alpha / sqrt(alpha^2 + H)``, ``w <- (1 - lr decay) w - lr sqrt(a / max a) O``, with the maximum over the
    layers of one geometry. Hidden matrices descend in the operator norm between root mean squares:
    ``O = sqrt(rows / columns) polar(B)``, and the dual norm ``||.||_*`` is ``sqrt(rows / columns)`` times the nuclear
    norm. Parameters whose name matches ``exclude``, known when the optimizer is given ``model.named_parameters()``,
    descend in the norm of the largest entry, as do vectors, apart from them: ``O = sign(B)``, and the dual norm is the
    sum of absolute entries. Their learning rate is ``sign_scale`` times that of hidden matrices. Tensors with more than
    two axes are flattened to ``(out, -1)``.

    That is the paper's first option. With ``independent``, its second one, the noise is that of ``G`` against the
    gradient of another batch at the same weights: call ``step(closure)`` with a closure that draws a batch whenever it
    is called; it is called twice a step, and the first gradient is the one that is followed.

    Deviations:
        1. The nuclear norm is ``<D, polar(D)>`` by ``noise_steps`` Newton-Schulz iterations, good to a few percent.
        2. Defaults, the ratio of learning rates, and the geometry of vectors are ours: no code is published.
    """
    hidden = Method(
        momentum=EMA(momentum, debias=False),
        preconditioner=Polar(steps, "operator"),
        step=NoiseAdaptive(alpha, beta, "operator", noise_steps, independent),
        decay=Decoupled(),
    )
    table, vectors = (
        Method(
            momentum=EMA(momentum, debias=False),
            preconditioner=Sign(sign_scale),
            step=NoiseAdaptive(alpha, beta, "entries", independent=independent),
            decay=Decoupled(),
        )
        for _ in range(2)
    )
    return Route(rules=((Matrices(exclude=tuple(exclude)), hidden), (Matrices(), table)), default=vectors)
