"""Optimizer classes of Shampoo and SOAP with factors that are fitted to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from precond.core import Distributor, Route
from precond.optim.adjustable import Adjustable
from precond.optim.optimizer import Optimizer
from precond.recipes import kullback_leibler
from precond.recipes.arguments import BETAS, EPS, REST, adjustable, checked_betas, rate_ratio
from precond.recipes.states import State


def _method(
    build: Callable[..., Route], lr: float, betas: tuple[float, float], eps: float, every: int, max_dim: int,
    start: float, gain: float, block: int | None, adamw_lr: float | None, exclude: Sequence[str], state: State,
    stagger: bool,
) -> Adjustable:  # fmt: skip
    """Return either recipe, whose groups may have decays and ``eps`` of their own."""
    b1, b2 = checked_betas(betas, 2)
    rest_scale = 1.0 if adamw_lr is None else rate_ratio("adamw_lr", adamw_lr, lr)
    return adjustable(
        build, BETAS | EPS | REST, state=state, b1=b1, b2=b2, eps=eps, every=every, max_dim=max_dim, start=start,
        gain=gain, block=block, exclude=exclude, rest_scale=rest_scale, stagger=stagger,
    )  # fmt: skip


class KLShampoo(Optimizer):
    """Shampoo with factors fitted to each other; see `precond.recipes.kullback_leibler.kl_shampoo`.

    Args:
        params: ``model.named_parameters()``, if parameters are to be left to AdamW by name; or parameters or groups.
        lr: Learning rate.
        betas: Decays of the averages of gradients and of the factors.
        eps: Added to the roots of products of eigenvalues.
        weight_decay: Decoupled decay, after the step.
        precondition_frequency: Steps between turns of the bases.
        max_precond_dim: Longer axes get no factor.
        init_factor: What eigenvalues start at.
        max_clamp_value: Largest inverse root of an eigenvalue.
        block_size: Longest side of the tiles that tensors are cut into; whole tensors unless given.
        adamw_lr: AdamW's learning rate for vectors, ``lr`` unless given; it keeps its ratio to ``lr`` under a schedule.
        exclude: Shell patterns of names that AdamW takes, too.
        state: Bits of the state: ``"full"``, ``"compact"``, ``"8-bit"`` or ``"4-bit"``.
        stagger: Turn the bases of different tensors at different steps, to spread the cost; False turns all at once.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precond_dim: int = 10000,
        init_factor: float = 0.1,
        max_clamp_value: float = 4000.0,
        block_size: int | None = None,
        adamw_lr: float | None = None,
        exclude: Sequence[str] = (),
        state: State = "full",
        stagger: bool = True,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = _method(
            kullback_leibler.kl_shampoo, lr, betas, eps, precondition_frequency, max_precond_dim, init_factor,
            max_clamp_value, block_size, adamw_lr, exclude, state, stagger,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class KLSOAP(Optimizer):
    """Adam in the eigenbasis of factors fitted to each other; see `precond.recipes.kullback_leibler.kl_soap`.

    Args:
        params: ``model.named_parameters()``, if parameters are to be left to AdamW by name; or parameters or groups.
        lr: Learning rate.
        betas: Decays of the averages of gradients, and of their squares and the factors.
        eps: Added to the square root.
        weight_decay: Decoupled decay, after the step.
        precondition_frequency: Steps between turns of the bases.
        max_precond_dim: Longer axes get no factor.
        init_factor: What eigenvalues start at.
        max_clamp_value: Largest inverse root of an eigenvalue.
        block_size: Longest side of the tiles that tensors are cut into; whole tensors unless given.
        adamw_lr: AdamW's learning rate for vectors, ``lr`` unless given; it keeps its ratio to ``lr`` under a schedule.
        exclude: Shell patterns of names that AdamW takes, too.
        state: Bits of the state: ``"full"``, ``"compact"``, ``"8-bit"`` or ``"4-bit"``.
        stagger: Turn the bases of different tensors at different steps, to spread the cost; False turns all at once.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precond_dim: int = 10000,
        init_factor: float = 0.1,
        max_clamp_value: float = 4000.0,
        block_size: int | None = None,
        adamw_lr: float | None = None,
        exclude: Sequence[str] = (),
        state: State = "full",
        stagger: bool = True,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = _method(
            kullback_leibler.kl_soap, lr, betas, eps, precondition_frequency, max_precond_dim, init_factor,
            max_clamp_value, block_size, adamw_lr, exclude, state, stagger,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)
