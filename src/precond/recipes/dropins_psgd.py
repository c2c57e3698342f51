"""Optimizer classes of preconditioners fitted on Lie groups, with the argument names of their published code."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from precond.core import Distributor
from precond.optim.optimizer import Optimizer
from precond.recipes import psgd, psgd_newton
from precond.recipes.arguments import MOMENTUM, adjustable


class PSGDKron(Optimizer):
    """White gradients by fitted Kronecker factors; see `precond.recipes.psgd.psgd_kron`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        momentum: Decay of the average of gradients; 0 for none.
        weight_decay: Decoupled decay.
        preconditioner_lr: Relative step size of the fit.
        preconditioner_max_size: Longer axes get a diagonal factor.
        preconditioner_max_skew: So do axes whose length squared is more than this multiple of the number of entries.
        preconditioner_init_scale: Start of ``Q``; by the size of the first gradient unless given.
        grad_clip_max_amps: Largest root mean square and largest entry of a direction.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        preconditioner_lr: float = 0.1,
        preconditioner_max_size: int = 8192,
        preconditioner_max_skew: float = 1.0,
        preconditioner_init_scale: float | None = None,
        grad_clip_max_amps: tuple[float, float] = (2.0, 10.0),
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        rms, largest = grad_clip_max_amps
        method = adjustable(psgd.psgd_kron, MOMENTUM,
            momentum=momentum, fit_lr=preconditioner_lr, max_size=preconditioner_max_size,
            max_skew=preconditioner_max_skew, init_scale=preconditioner_init_scale, rms=rms, largest=largest,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class PSGDAffine(Optimizer):
    """White gradients by two fitted triangular factors; see `precond.recipes.psgd.psgd_affine`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        momentum: Decay of the average of gradients; 0 for none.
        weight_decay: Decoupled decay.
        preconditioner_lr: Relative step size of the fit.
        preconditioner_max_size: Longer sides get a diagonal factor.
        preconditioner_max_skew: So do sides that are more than this multiple of the other side.
        preconditioner_init_scale: Start of ``Q``; by the size of the first gradient unless given.
        grad_clip_max_amps: Largest root mean square and largest entry of a direction.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        preconditioner_lr: float = 0.1,
        preconditioner_max_size: int = 8192,
        preconditioner_max_skew: float = float("inf"),
        preconditioner_init_scale: float | None = None,
        grad_clip_max_amps: tuple[float, float] = (2.0, 10.0),
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        rms, largest = grad_clip_max_amps
        method = adjustable(psgd.psgd_affine, MOMENTUM,
            momentum=momentum, fit_lr=preconditioner_lr, max_size=preconditioner_max_size,
            max_skew=preconditioner_max_skew, init_scale=preconditioner_init_scale, rms=rms, largest=largest,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class PSGDLRA(Optimizer):
    """White gradients by a fitted diagonal and low-rank correction; see `precond.recipes.psgd.psgd_lra`.

    Args:
        params: ``model.named_parameters()``, so that states can be loaded by name; or parameters or groups. Those of a
            group are one vector.
        lr: Learning rate.
        momentum: Decay of the average of gradients; 0 for none.
        weight_decay: Decoupled decay.
        rank_of_approximation: Columns of the correction.
        preconditioner_lr: Relative step size of the fit.
        preconditioner_init_scale: Start of the diagonal; by the size of the first gradient unless given.
        grad_clip_max_amps: Largest root mean square and largest entry of the direction.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        rank_of_approximation: int = 10,
        preconditioner_lr: float = 0.1,
        preconditioner_init_scale: float | None = None,
        grad_clip_max_amps: tuple[float, float] = (2.0, 10.0),
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        rms, largest = grad_clip_max_amps
        method = adjustable(psgd.psgd_lra, MOMENTUM,
            rank=rank_of_approximation, momentum=momentum, fit_lr=preconditioner_lr,
            init_scale=preconditioner_init_scale, rms=rms, largest=largest,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class PSGDNewton(Optimizer):
    """Newton-like steps by fitted factors; see `precond.recipes.psgd_newton.psgd_newton`. ``step`` needs a closure.

    Args:
        params: ``model.named_parameters()``, parameters or groups.
        lr: Learning rate.
        momentum: Decay of the average of gradients; 0 for none.
        weight_decay: Decoupled decay.
        form: ``"kron"``, ``"affine"`` or ``"lra"``: what is fitted.
        rank_of_approximation: Columns of the correction of ``"lra"``.
        preconditioner_lr: Relative step size of the fit.
        preconditioner_max_size: Longer sides get a diagonal factor (not in ``"lra"``).
        preconditioner_init_scale: Start of ``Q``; by the size of the first pair unless given.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.01,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        form: psgd_newton.Form = "kron",
        rank_of_approximation: int = 10,
        preconditioner_lr: float = 0.1,
        preconditioner_max_size: int = 8192,
        preconditioner_init_scale: float | None = None,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(psgd_newton.psgd_newton, MOMENTUM,
            form=form, rank=rank_of_approximation, momentum=momentum, fit_lr=preconditioner_lr,
            max_size=preconditioner_max_size, init_scale=preconditioner_init_scale,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)
