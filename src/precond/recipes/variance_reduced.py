"""Methods that correct the gradient by how it changed: MARS before AdamW, Lion, Shampoo and Muon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from precond.core import BadInputError, Builds, Choice, Kind, LogUniform, Method, Paper, Route
from precond.filters.chain import Chain
from precond.filters.clip import ClipNorm
from precond.filters.ema import EMA
from precond.filters.mars import Mars
from precond.filters.quasi_hyperbolic import QuasiHyperbolic
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.polar import Polar
from precond.preconditioners.sign import Sign
from precond.recipes.registry import recipe
from precond.recipes.routes import NOT_HIDDEN, hidden_and_rest
from precond.steps.decay import Decoupled

_PAPER = Paper(
    title="MARS: Unleashing the Power of Variance Reduction for Training Large Models",
    authors="Huizhuo Yuan, Yifeng Liu, Shuang Wu, Xun Zhou, Quanquan Gu",
    year=2024,
    arxiv="2411.10438",
    venue="ICML 2025",
)
_CLAIM = (
    "Trains GPT-2 models on OpenWebText to a lower validation loss than AdamW and Muon after the same number of tokens."
)
_GAMMA = Choice((0.0, 0.01, 0.025, 0.05, 0.1))


def _corrected(
    gamma: float, beta: float, clip: float | None, together: bool, from_zero: bool, exact: bool
) -> dict[str, Any]:
    """Return the slots of a method that correct gradients, and clip each tensor or all of them together."""
    correction = Mars(gamma, beta, from_zero, exact)
    if clip is None or together:
        return {"estimator": correction, "clip_estimates": clip}
    return {"estimator": Chain((correction, ClipNorm(clip)))}


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=_PAPER,
    purpose="AdamW on gradients that are corrected by their change since the step before.",
    claim=_CLAIM,
    example="precond.optim.MARS(model.named_parameters(), lr=3e-3)",
    space={"lr": LogUniform(3e-4, 3e-2), "gamma": _GAMMA, "weight_decay": Choice((0.0, 0.01, 0.1))},
    lr=3e-3,
)
def mars_adamw(
    *,
    b1: float = 0.95,
    b2: float = 0.99,
    eps: float = 1e-8,
    gamma: float = 0.025,
    clip: float | None = 1.0,
    from_zero: bool = False,
    exact: bool = False,
    clip_together: bool = False,
    optimize_1d: bool = False,
    exclude: Sequence[str] = (),
    rest_b1: float = 0.9,
    rest_b2: float = 0.95,
    rest_scale: float = 1.0,
) -> Route:
    """Make vAriance Reduction Shine, with AdamW.

    ``c = g + gamma b1 / (1 - b1) (g - g_previous)``, ``c <- c / max(1, ||c|| / clip)``, ``m <- b1 m + (1 - b1) c``,
    ``v <- b2 v + (1 - b2) c^2``, ``w <- (1 - lr decay) w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)``.

    Vectors, and parameters whose name matches ``exclude``, get plain AdamW with decays ``rest_b1``, ``rest_b2`` and
    ``rest_scale`` times the learning rate; with ``optimize_1d`` vectors are no exception. ``clip=None`` leaves the
    correction unclipped. ``from_zero`` takes the gradient before the first for zero, as the published code does; the
    paper starts without a correction.

    ``g_previous`` is the gradient of the step before, of another batch (the paper's approximate form). With ``exact``
    it is the gradient of this batch at the weights of the step before, the paper's Algorithm 1, which costs a second
    gradient and a copy of the weights: call ``step(closure)`` with a closure that evaluates the same batch each time.

    Deviations:
        1. Clipping is by tensor, as in the published code; with ``clip_together`` the corrected gradients of a group
           are clipped as one vector. The paper clips the vector of all parameters, here vectors and groups have rules
           of their own.
        2. Tensors with more than two axes are corrected too; the published code leaves them to AdamW.
        3. One weight decay for all parameters; the published code has another one, 0.1, for vectors: give them a
           parameter group of their own.
    """
    hidden = Method(
        **_corrected(gamma, b1, clip, clip_together, from_zero, exact),
        momentum=EMA(b1),
        preconditioner=Diagonal(b2, eps),
        decay=Decoupled(),
    )
    return hidden_and_rest(
        hidden, exclude=exclude, scale=rest_scale, b1=rest_b1, b2=rest_b2, eps=eps, vectors=optimize_1d
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=_PAPER,
    purpose="Signs of a momentum of gradients that are corrected by their change since the step before.",
    claim=_CLAIM,
    example='precond.optim.MARS(model.named_parameters(), lr=3e-4, mars_type="mars-lion")',
    space={"lr": LogUniform(3e-5, 1e-2), "gamma": _GAMMA, "weight_decay": Choice((0.0, 0.1, 1.0))},
    lr=3e-4,
)
def mars_lion(
    *,
    b1: float = 0.95,
    gamma: float = 0.025,
    clip: float | None = 1.0,
    from_zero: bool = False,
    exact: bool = False,
    clip_together: bool = False,
    optimize_1d: bool = False,
    exclude: Sequence[str] = (),
    rest_b1: float = 0.9,
    rest_b2: float = 0.95,
    rest_scale: float = 1.0,
) -> Route:
    """Make vAriance Reduction Shine, with Lion.

    ``c = g + gamma b1 / (1 - b1) (g - g_previous)``, ``c <- c / max(1, ||c|| / clip)``, ``m <- b1 m + (1 - b1) c``,
    ``w <- (1 - lr decay) w - lr sign(m)``; the other options and parameters as in `mars_adamw`.

    Deviations:
        1. Clipping by tensor; tensors with more than two axes; one weight decay: as in `mars_adamw`.
        2. The default learning rate is ours: a tenth of that of `mars_adamw`. The published code has one for all.
    """
    hidden = Method(
        **_corrected(gamma, b1, clip, clip_together, from_zero, exact),
        momentum=EMA(b1, debias=False),
        preconditioner=Sign(),
        decay=Decoupled(),
    )
    return hidden_and_rest(hidden, exclude=exclude, scale=rest_scale, b1=rest_b1, b2=rest_b2, vectors=optimize_1d)


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=_PAPER,
    purpose="The polar factor of a momentum of gradients that are corrected by their change since the step before.",
    claim=_CLAIM,
    example='precond.optim.MARS(model.named_parameters(), lr=0.02, mars_type="mars-shampoo")',
    space={"lr": LogUniform(3e-3, 1e-1), "gamma": _GAMMA, "rest_scale": LogUniform(0.01, 1.0)},
    lr=0.02,
)
def mars_shampoo(
    *,
    b1: float = 0.95,
    gamma: float = 0.025,
    clip: float | None = 1.0,
    steps: int = 5,
    from_zero: bool = False,
    exact: bool = False,
    clip_together: bool = False,
    exclude: Sequence[str] = (),
    rest_b1: float = 0.9,
    rest_b2: float = 0.95,
    rest_scale: float = 0.15,
) -> Route:
    """Make vAriance Reduction Shine, with Shampoo by Newton-Schulz.

    ``c = g + gamma b1 / (1 - b1) (g - g_previous)``, ``c <- c / max(1, ||c|| / clip)``, ``m <- b1 m + (1 - b1) c``,
    ``w <- (1 - lr decay) w - lr sqrt(max(1, rows / columns)) polar(m)``, with Muon's ``steps`` Newton-Schulz iterations
    for the polar factor (see `muon`); the other options and parameters as in `mars_adamw`.

    Deviations:
        1. Clipping by tensor; one weight decay: as in `mars_adamw`.
        2. Tensors with more than two axes are flattened to ``(out, -1)``; the published code leaves them to AdamW.
        3. The momentum is not divided by ``1 - b1`` before the iteration, which divides by its norm anyway.
        4. The default learning rates are ours, those of `muon` for matrices and of `mars_adamw` for the rest; the
           published code has 3e-3 for all.
    """
    hidden = Method(
        **_corrected(gamma, b1, clip, clip_together, from_zero, exact),
        momentum=EMA(b1, debias=False),
        preconditioner=Polar(steps),
        decay=Decoupled(),
    )
    return hidden_and_rest(hidden, exclude=exclude, scale=rest_scale, b1=rest_b1, b2=rest_b2)


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=Paper(
        title="MARS-M: When Variance Reduction Meets Matrices",
        authors="Yifeng Liu, Angela Yuan, Quanquan Gu",
        year=2025,
        arxiv="2510.21800",
    ),
    purpose="Muon, scaled to AdamW's step size, on gradients that are corrected by their change since the step before.",
    claim="Converges at rate T^(-1/3), against T^(-1/4) for Muon, and consistently reaches lower losses in language "
    "modelling and computer vision.",
    example="precond.optim.MARSM(model.named_parameters(), lr=1e-3, weight_decay=0.1)",
    space={"lr": LogUniform(3e-4, 3e-2), "gamma": _GAMMA, "weight_decay": Choice((0.0, 0.1))},
    lr=1e-3,
    weight_decay=0.1,
)
def mars_m(
    *,
    momentum: float = 0.95,
    gamma: float = 0.025,
    clip: float | None = 1.0,
    steps: int = 5,
    from_zero: bool = False,
    exact: bool = False,
    clip_together: bool = False,
    efficient: bool = False,
    exclude: Sequence[str] = NOT_HIDDEN,
    rest_b1: float = 0.9,
    rest_b2: float = 0.95,
) -> Route:
    """Moonlight's Muon with the correction of MARS.

    ``c = g + gamma beta / (1 - beta) (g - g_previous)``, ``c <- c / max(1, ||c|| / clip)``,
    ``m <- beta m + (1 - beta) c``, ``w <- (1 - lr decay) w - 0.2 lr sqrt(max(rows, columns)) polar(m)``, with Muon's
    ``steps`` Newton-Schulz iterations for the polar factor and without Nesterov momentum. Vectors, and parameters whose
    name matches ``exclude``, get AdamW with the same learning rate. ``exact`` and ``clip_together`` as in
    `mars_adamw`.
    ``efficient`` is the published variant without clipping that keeps no gradient: ``m`` is then
    ``gamma g + (1 - gamma) average(g)``, to which the approximate correction from zero amounts.

    Deviations:
        1. Tensors with more than two axes are flattened to ``(out, -1)``; the published code acts on their last two.
        2. AdamW adds ``eps`` after the bias correction; the published code adds it before.
    """
    if efficient and exact:
        raise BadInputError("the exact correction needs a second gradient: choose exact or efficient")
    hidden = Method(
        **({} if efficient else _corrected(gamma, momentum, clip, clip_together, from_zero, exact)),
        momentum=QuasiHyperbolic(gamma, momentum) if efficient else EMA(momentum, debias=False),
        preconditioner=Polar(steps, "rms"),
        decay=Decoupled(),
    )
    return hidden_and_rest(hidden, exclude=exclude, b1=rest_b1, b2=rest_b2)
