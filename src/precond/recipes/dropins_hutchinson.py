"""Optimizer classes of methods that probe the Hessian's diagonal, with the argument names of their published code."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from precond.core import Distributor
from precond.optim.optimizer import Optimizer
from precond.recipes import hutchinson
from precond.recipes.arguments import BETAS, EPS, adjustable, checked_betas


class AdaHessian(Optimizer):
    """Adam with estimates of the Hessian's diagonal; see `precond.recipes.hutchinson.adahessian`.

    ``step`` needs a closure, which is called twice for the same batch.

    Args:
        params: ``model.named_parameters()``, parameters or groups.
        lr: Learning rate.
        betas: Decays of the averages of gradients and of the squared estimates.
        eps: Added to the square root.
        weight_decay: Decoupled decay.
        kernels: Average estimates over the axes after the first two.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.15,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        kernels: bool = True,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        b1, b2 = checked_betas(betas, 2)
        method = adjustable(hutchinson.adahessian, BETAS | EPS, b1=b1, b2=b2, eps=eps, kernels=kernels)
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)
