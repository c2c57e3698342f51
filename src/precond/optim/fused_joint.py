"""Steps that are one kernel of PyTorch's, for any number of tensors: AdamW and SGD."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import Method
from precond.filters.ema import EMA
from precond.filters.heavy_ball import HeavyBall
from precond.optim.whole_step import Ages, Fused, Joint, Lists
from precond.preconditioners.diagonal import Diagonal
from precond.steps.decay import DecoupledAfter


def adamw(method: Method) -> Fused | None:
    """Return AdamW as one kernel; ``None`` for its variants that the kernel does not know."""
    average, squares = method.momentum, method.preconditioner
    assert isinstance(average, EMA)
    assert isinstance(squares, Diagonal)
    if not (average.debias and squares.debias) or squares.beta >= 1.0:
        return None
    after = isinstance(method.decay, DecoupledAfter)

    def kernel(params: list[Tensor], grads: list[Tensor], lists: Lists, ages: Ages, lr: Any, decay: float) -> None:
        tensors = (params, grads, *lists, ages.floats(0))
        before = 0.0 if after else decay
        if squares.eps_first:  # members of different ages have different bias corrections
            for age in set(ages.numbers[1]):
                chosen = [i for i, number in enumerate(ages.numbers[1]) if number == age]
                eps = squares.eps / math.sqrt(1.0 - squares.beta**age)
                portion([[values[i] for i in chosen] for values in tensors], lr, before, eps)
        else:
            portion(tensors, lr, before, squares.eps)
        if after and decay:
            torch._foreach_mul_(params, 1.0 - lr * decay)

    def portion(tensors: Sequence[list[Tensor]], lr: Any, decay: float, eps: float) -> None:
        params, grads, means, moments, counts = tensors
        torch._fused_adamw_(
            params, grads, means, moments, [], counts, lr=lr, beta1=average.beta, beta2=squares.beta,
            weight_decay=decay, eps=eps, amsgrad=False, maximize=False,
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
