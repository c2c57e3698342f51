"""Optimizer classes of methods that keep a window of gradients, with the argument names of their published code."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from precond.core import Distributor
from precond.optim.optimizer import Optimizer
from precond.recipes import windowed
from precond.recipes.arguments import MOMENTUM, adjustable


class MFAC(Optimizer):
    """Natural gradients by a window of gradients; see `precond.recipes.windowed.m_fac`.

    Args:
        params: ``model.named_parameters()``, so that states can be loaded by name; or parameters or groups. Those of a
            group are one vector.
        lr: Learning rate.
        momentum: Decay of the average of directions; 0 for none.
        weight_decay: Added to the gradient, times the weight.
        ngrads: How many gradients are kept.
        damp: What is added to the Fisher matrix.
        clip: Largest norm of a gradient, over all parameters; longer ones are scaled down.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        ngrads: int = 1024,
        damp: float = 1e-5,
        clip: float | None = None,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(windowed.m_fac, MOMENTUM, memory=ngrads, damping=damp, momentum=momentum, clip=clip)
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class SparseMFAC(Optimizer):
    """Natural gradients by a window of sparse gradients; see `precond.recipes.windowed.sparse_m_fac`.

    Args:
        params: ``model.named_parameters()``, so that states can be loaded by name; or parameters or groups. Those of a
            group are one vector.
        lr: Learning rate.
        momentum: Decay of the velocity; 0 for none.
        weight_decay: What weights shrink by in a step, whatever the learning rate.
        ngrads: How many gradients are kept.
        k_init: Share of their entries that is kept.
        damp: What is added to the Fisher matrix.
        block_size: Entries of blocks that each keep that share; unless given, the largest of all are kept.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        ngrads: int = 1024,
        k_init: float = 0.01,
        damp: float = 1e-5,
        block_size: int | None = None,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(
            windowed.sparse_m_fac,
            MOMENTUM,
            memory=ngrads,
            damping=damp,
            density=k_init,
            block=block_size,
            momentum=momentum,
        )
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class LowRankMFAC(Optimizer):
    """Natural gradients by windows of gradients of low rank; see `precond.recipes.windowed.low_rank_m_fac`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        momentum: Decay of the average of directions; 0 for none.
        weight_decay: Added to the gradient, times the weight.
        ngrads: How many gradients are kept.
        damp: What is added to the Fisher matrices.
        rank: Rank of what is kept of a gradient.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        ngrads: int = 1024,
        damp: float = 1e-5,
        rank: int = 1,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(
            windowed.low_rank_m_fac, MOMENTUM, memory=ngrads, damping=damp, rank=rank, momentum=momentum
        )
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)
