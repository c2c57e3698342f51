"""Optimizer classes of the newer matrix methods, with the argument names of their published code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from precond.optim.optimizer import Optimizer
from precond.preconditioners.polar import Scale
from precond.recipes import orthogonal
from precond.recipes.arguments import rate_ratio
from precond.recipes.routes import NOT_HIDDEN


class TurboMuon(Optimizer):
    """Muon with pre-conditioned Newton-Schulz; see `precond.recipes.orthogonal.turbo_muon`.

    Args:
        params: ``model.named_parameters()``, so that embeddings and output layers are known by name; or parameters or
            groups, of which every one with two or more axes is then taken for hidden.
        lr: Learning rate of the hidden matrices.
        weight_decay: Decoupled decay.
        momentum: Decay of the average of gradients.
        nesterov: Use Nesterov momentum.
        ns_steps: Newton-Schulz iterations; 5 for the exactness of one more, 0 for the exact polar factor.
        scale: ``"spectral"``, ``"rms"`` or ``"none"``; see `precond.preconditioners.polar.Polar`.
        adamw_lr: Learning rate of the rest; it keeps its ratio to ``lr`` under a schedule.
        exclude: Shell patterns of names that are not hidden.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.02,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 4,
        scale: Scale = "spectral",
        adamw_lr: float = 3e-4,
        exclude: Sequence[str] = NOT_HIDDEN,
    ) -> None:
        method = orthogonal.turbo_muon(
            momentum=momentum, nesterov=nesterov, steps=ns_steps, scale=scale, exclude=exclude,
            adamw_scale=rate_ratio("adamw_lr", adamw_lr, lr),
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay)
