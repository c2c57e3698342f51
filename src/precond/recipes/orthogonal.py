"""Methods that step along the polar factor of the momentum: Muon, Turbo-Muon."""

from __future__ import annotations

from collections.abc import Sequence

from precond.core import Builds, Choice, Kind, LogUniform, Method, Paper, Route
from precond.filters.ema import EMA
from precond.filters.nesterov import Nesterov
from precond.math.factors.polar import MUON, TURBO, TURBO_FIVE, Form, NewtonSchulz
from precond.preconditioners.polar import Polar, Scale
from precond.recipes.registry import recipe
from precond.recipes.routes import NOT_HIDDEN, hidden_and_rest
from precond.steps.decay import Decoupled


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=Paper(
        title="Muon: An optimizer for hidden layers in neural networks",
        authors="Keller Jordan, Yuchen Jin, Vlado Boza, Jiacheng You, Franz Cesista, Laker Newhouse, Jeremy Bernstein",
        year=2024,
        venue="https://kellerjordan.github.io/posts/muon/",
    ),
    purpose="Orthogonalized momentum for hidden matrices, AdamW for everything else.",
    claim="Cut the record of the NanoGPT speed run by 1.35x against AdamW, and that of 94 % on CIFAR-10 from 3.3 to "
    "2.6 A100-seconds.",
    example="precond.optim.Muon(model.named_parameters(), lr=0.02)",
    space={"lr": LogUniform(5e-3, 1e-1), "adamw_scale": LogUniform(0.01, 0.5), "momentum": Choice((0.9, 0.95))},
    lr=0.02,
)
def muon(
    *,
    momentum: float = 0.95,
    nesterov: bool = True,
    steps: int = 5,
    scale: Scale = "spectral",
    iteration: NewtonSchulz = MUON,
    polar: Form = "auto",
    exclude: Sequence[str] = NOT_HIDDEN,
    adamw_scale: float = 0.015,
) -> Route:
    """MomentUm Orthogonalized by Newton-Schulz.

    ``m <- beta m + (1 - beta) g``, ``u = (1 - beta) g + beta m`` (Nesterov), five times
    ``X <- a X + b (X X^T) X + c (X X^T)^2 X`` from ``X = u / ||u||_F`` with ``(a, b, c) = (3.4445, -4.7750, 2.0315)``,
    ``w <- (1 - lr decay) w - lr sqrt(max(1, rows / columns)) X``. Tensors with more than two axes are flattened to
    ``(out, -1)``. ``scale="rms"`` is Moonlight's ``0.2 sqrt(max(rows, columns))`` (arXiv 2502.16982).
    ``iteration`` exchanges the polynomials, for instance for `POLAR_EXPRESS` of `precond.math.factors.polar` (arXiv
    2505.16932).
    ``polar="gram"`` steps on the Gram matrix of the shorter side alone and multiplies ``X`` at the end (Gram
    Newton-Schulz, Zhang et al., 2026), ``"matrix"`` on ``X``; ``"auto"`` takes the one with fewer multiplications where
    precision is single or double. They are equal but for rounding.

    Vectors, and parameters whose name matches ``exclude`` (known when the optimizer is given
    ``model.named_parameters()``), get AdamW with decays (.9, .95), ``eps = 1e-10`` and ``adamw_scale`` times the
    learning rate: 3e-4 to Muon's 0.02.

    Deviations:
        1. The scale of a tensor with more than two axes is that of the flattened matrix; the published code takes it
           from the last two axes, so that convolutions are not scaled at all.
        2. The iteration runs in bfloat16 where the device multiplies it natively, in float32 elsewhere, and in float64
           for float64.
    """
    average = Nesterov(momentum) if nesterov else EMA(momentum, debias=False)
    hidden = Method(momentum=average, preconditioner=Polar(steps, scale, iteration, polar), decay=Decoupled())
    return hidden_and_rest(hidden, exclude=exclude, scale=adamw_scale, eps=1e-10)


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=Paper(
        title="Turbo-Muon: Accelerating Orthogonality-Based Optimization with Pre-Conditioning",
        authors="Thibaut Boissin, Thomas Massena, Franck Mamalet, Mathieu Serrurier",
        year=2025,
        arxiv="2512.04632",
    ),
    purpose="Muon with one Newton-Schulz iteration fewer, thanks to a better scaling of the rows.",
    claim="Orthogonalizes up to 2.8x faster and shortens training steps by 5 to 10 % without loss of quality.",
    example="precond.optim.TurboMuon(model.named_parameters(), lr=0.02)",
    space={"lr": LogUniform(5e-3, 1e-1), "adamw_scale": LogUniform(0.01, 0.5), "momentum": Choice((0.9, 0.95))},
    lr=0.02,
)
def turbo_muon(
    *,
    momentum: float = 0.95,
    nesterov: bool = True,
    steps: int = 4,
    scale: Scale = "spectral",
    polar: Form = "auto",
    exclude: Sequence[str] = NOT_HIDDEN,
    adamw_scale: float = 0.015,
) -> Route:
    """Muon with almost-orthogonal pre-conditioning.

    As `muon`, but ``X = S u`` instead of ``u / ||u||_F``, where ``S`` is diagonal with
    ``s_i = (sum_j |u u^T|_ij)^(-1/2)`` on the shorter side of ``u``, so that ``||X||_2 <= 1``; then four steps
    ``X <- a X + b (X X^T) X + c (X X^T)^2 X`` with ``(a, b, c)`` = (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037), (2.8769, -3.1427, 1.2046), (2.8366, -3.0525, 1.2012). The first ``X X^T`` comes with
    ``S``.

    The limit is the polar factor of ``S u``, which is that of ``u`` only if its rows are orthogonal. Momentum that is
    nearly of low rank loses accuracy with four steps: ``steps=5`` begins with the quintic that was dropped,
    (4.0848, -6.8946, 2.9270). ``polar`` as in `muon`.

    Deviations:
        1. As in `muon`: the scale of flattened tensors, and the dtype of the iteration.
        2. Row sums are taken in float32 at least, and are at least 1e-7, not 1e-6.
    """
    average = Nesterov(momentum) if nesterov else EMA(momentum, debias=False)
    iteration = TURBO_FIVE if steps > 4 else TURBO
    hidden = Method(momentum=average, preconditioner=Polar(steps, scale, iteration, polar), decay=Decoupled())
    return hidden_and_rest(hidden, exclude=exclude, scale=adamw_scale, eps=1e-10)
