"""Optimizer classes whose state takes few bits, with the argument names of their published code."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from precond.core import Distributor
from precond.optim.optimizer import Optimizer
from precond.recipes import low_bit
from precond.recipes.arguments import BETAS, adjustable, checked_betas


class Shampoo4bit(Optimizer):
    """Shampoo with eigenvectors and roots of four bits; see `precond.recipes.low_bit.shampoo_4bit`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        betas: Decays of AdamW's averages of directions and of their squares.
        eps: What AdamW adds to the root.
        weight_decay: Decoupled decay.
        base: ``"adamw"`` or ``"sgdm"``: what gets the preconditioned gradient.
        momentum: Decay of the velocity, for ``"sgdm"``.
        nesterov: Use Nesterov momentum, for ``"sgdm"``.
        stat_compute_steps: Steps between gradients that the factors absorb.
        prec_compute_steps: Steps between roots.
        stat_decay: Decay of the factors.
        matrix_eps: The factors start at this multiple of the identity; ridge of the roots.
        prec_maxorder: Longest side of a factor.
        quan_blocksize: Entries that share a scale.
        rect_t1: Repairs of the eigenvectors before they are turned.
        rect_t2: Repairs of the eigenvectors before a root is taken.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        base: Literal["adamw", "sgdm"] = "adamw",
        momentum: float = 0.9,
        nesterov: bool = False,
        stat_compute_steps: int = 100,
        prec_compute_steps: int = 500,
        stat_decay: float = 0.95,
        matrix_eps: float = 1e-6,
        prec_maxorder: int = 1200,
        quan_blocksize: int = 64,
        rect_t1: int = 1,
        rect_t2: int = 4,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        b1, b2 = checked_betas(betas, 2)
        method = adjustable(low_bit.shampoo_4bit, BETAS,
            base=base, b1=b1, b2=b2, adam_eps=eps, momentum=momentum, nesterov=nesterov, beta=stat_decay,
            eps=matrix_eps, observe_every=stat_compute_steps, every=prec_compute_steps, block=prec_maxorder,
            quantized_block=quan_blocksize, before_turning=rect_t1, before_rooting=rect_t2,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class Shampoo4bitCholesky(Optimizer):
    """Shampoo with Cholesky factors and roots of four bits; see `precond.recipes.low_bit.shampoo_4bit_cholesky`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        betas: Decays of AdamW's averages of directions and of their squares.
        eps: What AdamW adds to the root.
        weight_decay: Decoupled decay.
        base: ``"adamw"`` or ``"sgdm"``: what gets the preconditioned gradient.
        momentum: Decay of the velocity, for ``"sgdm"``.
        nesterov: Use Nesterov momentum, for ``"sgdm"``.
        stat_compute_steps: Steps between gradients that the factors absorb.
        prec_compute_steps: Steps between roots.
        stat_decay: Decay of the factors.
        error_decay: Decay of the average of the rounding errors.
        matrix_eps: Added to the diagonal of the factors; ridge of the roots.
        prec_maxorder: Longest side of a factor.
        quan_blocksize: Entries that share a scale.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        base: Literal["adamw", "sgdm"] = "adamw",
        momentum: float = 0.9,
        nesterov: bool = False,
        stat_compute_steps: int = 100,
        prec_compute_steps: int = 500,
        stat_decay: float = 0.95,
        error_decay: float = 0.95,
        matrix_eps: float = 1e-6,
        prec_maxorder: int = 1200,
        quan_blocksize: int = 64,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        b1, b2 = checked_betas(betas, 2)
        method = adjustable(low_bit.shampoo_4bit_cholesky, BETAS,
            base=base, b1=b1, b2=b2, adam_eps=eps, momentum=momentum, nesterov=nesterov, beta=stat_decay,
            beta_error=error_decay, eps=matrix_eps, observe_every=stat_compute_steps, every=prec_compute_steps,
            block=prec_maxorder, quantized_block=quan_blocksize,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)
