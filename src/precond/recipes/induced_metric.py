"""Optimizers that see the loss as a surface in a space of one more dimension."""

from __future__ import annotations

from typing import Any, Literal

from precond.core import BadInputError, Builds, Choice, Kind, LogUniform, Method, Paper, Preconditioner
from precond.filters.ema import EMA
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.identity import Identity
from precond.preconditioners.polar import Polar
from precond.recipes.registry import recipe
from precond.steps.decay import Decoupled
from precond.steps.induced_metric import Embedding, InducedMetric


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="first-order",
    paper=Paper(
        title="The Optimiser Hidden in Plain Sight: Training with the Loss Landscape's Induced Metric",
        authors="Thomas R. Harvey",
        year=2025,
        arxiv="2509.03594",
    ),
    purpose="Momentum that clips itself smoothly, by the slope of the loss as a surface.",
    claim="Highly effective on low-dimensional examples, and slightly better than state-of-the-art methods in training "
    "neural networks.",
    example="precond.optim.InducedMetric(model.parameters(), lr=0.1)",
    space={"lr": LogUniform(1e-3, 1.0), "xi": LogUniform(1e-9, 1.0), "base": Choice(("sgd", "rms"))},
    lr=0.1,
)
def induced_metric(
    *,
    base: Literal["sgd", "rms", "muon"] = "sgd",
    embedding: Embedding = "loss",
    momentum: float = 0.9,
    xi: float = 0.1,
    beta: float = 0.8,
    beta_rms: float = 0.99,
    eps: float = 1e-8,
) -> Method:
    """Descent in the metric induced on the graph of ``f(loss)``.

    ``m <- momentum m + (1 - momentum) g``, ``m^ = m / (1 - momentum^t)``, ``e <- beta e + (1 - beta) xi <g, P g>`` with
    the product over all parameters, ``e^ = e / (1 - beta^t)``, ``w <- (1 - lr decay) w - lr s P m^`` with
    ``s = 1 / (1 + e^)`` for ``f(L) = L``, ``s = L / (L^2 + e^)`` for ``f(L) = log L`` (``embedding="log"``) and
    ``s = 2 sqrt(L) / (4 L + e^)`` for ``f(L) = sqrt L`` (``"sqrt"``). ``P`` is the identity; with ``base="rms"``
    ``P v = v / (sqrt(n / (1 - beta_rms^t)) + eps)`` where ``n <- beta_rms n + (1 - beta_rms) g^2``; with ``"muon"`` the
    polar factor, nonlinear, so that ``<g, P g>`` is the nuclear norm.

    Deviations:
        1. ``e`` and ``t`` are kept with each parameter: one that had no gradient in some steps has its own.
        2. Losses that are not positive, which ``log`` and ``sqrt`` cannot embed, count as the least positive number.
        3. The published code has ``"sgd"`` with ``"loss"`` and with ``"log"``, and ``"rms"`` with ``"loss"``; all other
           combinations follow from the general formula.
    """
    bases: dict[str, Preconditioner[Any]] = {"sgd": Identity(), "rms": Diagonal(beta_rms, eps), "muon": Polar()}
    if base not in bases:
        raise BadInputError(f"base must be 'sgd', 'rms' or 'muon', not {base!r}")
    return Method(
        momentum=EMA(momentum),
        preconditioner=bases[base],
        step=InducedMetric(xi, beta, embedding),
        decay=Decoupled(),
    )
