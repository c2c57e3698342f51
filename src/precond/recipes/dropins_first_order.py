"""Optimizer classes of methods that look at entries alone, with the argument names of their published code."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from precond.core import Distributor
from precond.optim.optimizer import Optimizer
from precond.recipes import first_order
from precond.recipes.arguments import BETAS, EPS, MOMENTUM, adjustable, checked_betas

_THREE_BETAS = {"betas": ("b1", "b2", "b3")}


class SGD(Optimizer):
    """Stochastic gradient descent, as `torch.optim.SGD`; see `precond.recipes.first_order.sgd`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        momentum: Decay of the velocity.
        dampening: What is taken off each gradient after the first.
        weight_decay: Added to the gradient, times the weight.
        nesterov: Use Nesterov momentum.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(first_order.sgd, MOMENTUM, momentum=momentum, dampening=dampening, nesterov=nesterov)
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class AdamW(Optimizer):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`; see `precond.recipes.first_order.adamw`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        betas: Decays of the averages of gradients and of their squares.
        eps: Added to the square root.
        weight_decay: Decoupled decay.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        b1, b2 = checked_betas(betas, 2)
        method = adjustable(first_order.adamw, BETAS | EPS, b1=b1, b2=b2, eps=eps)
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class Adan(Optimizer):
    """Adaptive Nesterov momentum; see `precond.recipes.first_order.adan`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        betas: Decays of the averages of gradients, of their differences and of squares (1 minus the paper's).
        eps: Added to the square root.
        weight_decay: Proximal decay.
        max_grad_norm: Largest norm of the gradients of all parameters together; 0 for any.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_grad_norm: float = 0.0,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        b1, b2, b3 = checked_betas(betas, 3)
        method = adjustable(
            first_order.adan, _THREE_BETAS | EPS, b1=b1, b2=b2, b3=b3, eps=eps, clip=max_grad_norm or None
        )
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class Lion(Optimizer):
    """Signs of an interpolated momentum; see `precond.recipes.first_order.lion`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        betas: Weight of the memory in the step, and decay of the memory.
        weight_decay: Decoupled decay.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        b1, b2 = checked_betas(betas, 2)
        method = adjustable(first_order.lion, BETAS, b1=b1, b2=b2)
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)
