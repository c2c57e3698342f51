"""Steps that are one kernel of PyTorch's, for any number of tensors: AdamW and SGD."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from precond.core import Method
from precond.filters.ema import EMA
from precond.filters.heavy_ball import HeavyBall
from precond.optim.whole_step import Ages, Fused, Joint, Lists
from precond.preconditioners.diagonal import Diagonal


def adamw(method: Method) -> Fused | None:
    """Return AdamW as one kernel; ``None`` for its variants that the kernel does not know."""
    average, squares = method.momentum, method.preconditioner
    assert isinstance(average, EMA)
    assert isinstance(squares, Diagonal)
    if not (average.debias and squares.debias) or squares.beta >= 1.0 or squares.eps_first:
        return None

    def kernel(params: list[Tensor], grads: list[Tensor], lists: Lists, ages: Ages, lr: Any, decay: float) -> None:
        means, moments = lists
        torch._fused_adamw_(
            params, grads, means, moments, [], ages.floats(0), lr=lr, beta1=average.beta,
            beta2=squares.beta, weight_decay=decay, eps=squares.eps, amsgrad=False, maximize=False,
        )  # fmt: skip

    return Fused.of(
        Joint(
            kernel,
            tensors=lambda moved: (moved.momentum.average, moved.preconditioner.second_moment),
            counters=lambda moved: (moved.momentum.steps, moved.preconditioner.steps),
        )
    )


def sgd(method: Method) -> Fused | None:
    """Return SGD, with momentum or without, as one kernel; ``None`` with dampening."""
    ball = method.momentum
    if isinstance(ball, HeavyBall) and ball.dampening:
        return None
    beta, nesterov = (ball.momentum, ball.nesterov) if isinstance(ball, HeavyBall) else (0.0, False)

    def kernel(params: list[Tensor], grads: list[Tensor], lists: Lists, ages: Ages, lr: Any, decay: float) -> None:
        torch._fused_sgd_(
            params, grads, *(lists or ([],)), weight_decay=decay, momentum=beta, lr=lr, dampening=0.0,
            nesterov=nesterov, maximize=False, is_first_step=False,
        )  # fmt: skip

    return Fused.of(
        Joint(
            kernel,
            tensors=lambda moved: () if moved.momentum is None else (moved.momentum.velocity,),
            counters=lambda _: (),
        )
    )
