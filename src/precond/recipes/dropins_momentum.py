"""Optimizer classes of methods that reshape the momentum, with the argument names of their published code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from precond.core import BadInputError, Distributor
from precond.math.factors.polar import Form
from precond.optim.adjustable import Adjustable
from precond.optim.optimizer import Optimizer
from precond.preconditioners.polar import Scale
from precond.recipes import induced_metric, noise_adaptive, orthogonal, variance_reduced
from precond.recipes.arguments import BETAS, EPS, MOMENTUM, REST, adjustable, checked_betas, rate_ratio
from precond.recipes.routes import NOT_HIDDEN
from precond.steps.induced_metric import Embedding


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
        polar: What the iteration steps on: ``"matrix"``, ``"gram"`` or ``"auto"``; see `precond.math.factors.polar`.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
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
        polar: Form = "auto",
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(orthogonal.turbo_muon, MOMENTUM | {"adamw_scale": "adamw_scale"},
            momentum=momentum, nesterov=nesterov, steps=ns_steps, scale=scale, polar=polar, exclude=exclude,
            adamw_scale=rate_ratio("adamw_lr", adamw_lr, lr),
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class MARS(Optimizer):
    """AdamW, Lion or Shampoo on corrected gradients; see `precond.recipes.variance_reduced.mars_adamw` and its like.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate of tensors with two or more axes.
        betas: Decays of the averages of gradients and of their squares; the latter is AdamW's alone.
        eps: Added to the square root.
        weight_decay: Decoupled decay.
        gamma: Strength of the correction.
        mars_type: ``"mars-adamw"``, ``"mars-lion"`` or ``"mars-shampoo"``.
        lr_1d: AdamW's learning rate for vectors; it keeps its ratio to ``lr`` under a schedule.
        betas_1d: AdamW's decays for vectors.
        optimize_1d: Correct the gradients of vectors, too, in place of AdamW; not with ``"mars-shampoo"``.
        from_zero: Take the gradient before the first for zero, as the published code does.
        is_approx: Compare with the gradient of the batch before; False evaluates each batch again at the weights of the
            step before, and needs ``step(closure)``.
        clip_together: Clip the corrected gradients of a group as one vector, rather than each tensor.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        gamma: float = 0.025,
        mars_type: Literal["mars-adamw", "mars-lion", "mars-shampoo"] = "mars-adamw",
        lr_1d: float = 3e-3,
        betas_1d: tuple[float, float] = (0.9, 0.95),
        optimize_1d: bool = False,
        from_zero: bool = False,
        is_approx: bool = True,
        clip_together: bool = False,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        (b1, b2), (rest_b1, rest_b2) = checked_betas(betas, 2), checked_betas(betas_1d, 2)
        common: dict[str, Any] = {
            "b1": b1, "gamma": gamma, "from_zero": from_zero, "exact": not is_approx, "rest_b1": rest_b1,
            "rest_b2": rest_b2, "rest_scale": rate_ratio("lr_1d", lr_1d, lr), "clip_together": clip_together,
        }  # fmt: skip
        method: Adjustable
        if mars_type == "mars-adamw":
            method = adjustable(
                variance_reduced.mars_adamw, BETAS | EPS | REST, b2=b2, eps=eps, optimize_1d=optimize_1d, **common
            )
        elif mars_type == "mars-lion":
            method = adjustable(
                variance_reduced.mars_lion, {"momentum": "b1"} | REST, optimize_1d=optimize_1d, **common
            )
        elif mars_type == "mars-shampoo" and optimize_1d:
            raise BadInputError("mars_type='mars-shampoo' has no rule for vectors: leave optimize_1d out")
        elif mars_type == "mars-shampoo":
            method = adjustable(variance_reduced.mars_shampoo, {"momentum": "b1"} | REST, **common)
        else:
            raise BadInputError(f"mars_type must be 'mars-adamw', 'mars-lion' or 'mars-shampoo', not {mars_type!r}")
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class MARSM(Optimizer):
    """Moonlight's Muon on corrected gradients; see `precond.recipes.variance_reduced.mars_m`.

    Args:
        params: ``model.named_parameters()``, so that embeddings and output layers are known by name; or parameters or
            groups, of which every one with two or more axes is then taken for hidden.
        lr: Learning rate.
        weight_decay: Decoupled decay.
        momentum: Decay of the average of gradients.
        gamma: Strength of the correction.
        ns_steps: Newton-Schulz iterations; 0 for the exact polar factor.
        adamw_betas: Decays of AdamW for the rest.
        from_zero: Take the gradient before the first for zero, as the published code does.
        is_approx: Compare with the gradient of the batch before; False evaluates each batch again at the weights of the
            step before, and needs ``step(closure)``.
        exclude: Shell patterns of names that are not hidden.
        efficient: Without clipping, and without a copy of a gradient.
        clip_together: Clip the corrected gradients of a group as one vector, rather than each tensor.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        gamma: float = 0.025,
        ns_steps: int = 5,
        adamw_betas: tuple[float, float] = (0.9, 0.95),
        from_zero: bool = False,
        is_approx: bool = True,
        exclude: Sequence[str] = NOT_HIDDEN,
        efficient: bool = False,
        clip_together: bool = False,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        rest_b1, rest_b2 = checked_betas(adamw_betas, 2)
        method = adjustable(variance_reduced.mars_m, MOMENTUM,
            momentum=momentum, gamma=gamma, steps=ns_steps, from_zero=from_zero, exact=not is_approx, exclude=exclude,
            rest_b1=rest_b1, rest_b2=rest_b2, efficient=efficient, clip_together=clip_together,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class LANTON(Optimizer):
    """Muon with a learning rate for each layer by its noise; see `precond.recipes.noise_adaptive.lanton`.

    Args:
        params: ``model.named_parameters()``, so that embeddings and output layers are known by name; or parameters or
            groups, of which every one with two or more axes is then taken for hidden.
        lr: Learning rate of the quietest hidden matrix.
        weight_decay: Decoupled decay.
        betas: Decays of the averages of gradients and of noise.
        alpha: The noise up to which layers are not told apart.
        ns_steps: Newton-Schulz iterations; 0 for the exact polar factor.
        sign_lr: Learning rate of the rest; it keeps its ratio to ``lr`` under a schedule.
        exclude: Shell patterns of names that are not hidden.
        independent: Take the noise from another batch at the same weights, rather than from the step before: needs
            ``step(closure)`` with a closure that draws a batch whenever it is called.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.02,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.95, 0.9),
        alpha: float = 1.0,
        ns_steps: int = 5,
        sign_lr: float = 3e-4,
        exclude: Sequence[str] = NOT_HIDDEN,
        independent: bool = False,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        momentum, beta = checked_betas(betas, 2)
        method = adjustable(noise_adaptive.lanton, {"betas": ("momentum", "beta"), "sign_scale": "sign_scale"},
            momentum=momentum, alpha=alpha, beta=beta, steps=ns_steps, noise_steps=ns_steps, exclude=exclude,
            sign_scale=rate_ratio("sign_lr", sign_lr, lr), independent=independent,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class InducedMetric(Optimizer):
    """Momentum in the metric of the loss surface; see `precond.recipes.induced_metric.induced_metric`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        momentum: Decay of the average of gradients.
        xi: Scale of the direction of the loss; 0 for plain momentum.
        beta: Decay of the average of the metric.
        weight_decay: Decoupled decay.
        base: ``"sgd"``, ``"rms"`` or ``"muon"``: what is shortened.
        embedding: ``"loss"``, ``"log"`` or ``"sqrt"``; the last two need ``step(closure)``.
        beta_rms: Decay of the average of squares of ``"rms"``.
        eps: Added to its root.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        xi: float = 0.1,
        beta: float = 0.8,
        weight_decay: float = 0.0,
        base: Literal["sgd", "rms", "muon"] = "sgd",
        embedding: Embedding = "loss",
        beta_rms: float = 0.99,
        eps: float = 1e-8,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(
            induced_metric.induced_metric,
            MOMENTUM,
            base=base,
            embedding=embedding,
            momentum=momentum,
            xi=xi,
            beta=beta,
            beta_rms=beta_rms,
            eps=eps,
        )
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)
