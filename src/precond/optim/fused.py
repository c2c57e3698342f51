"""Whole steps that PyTorch has as one kernel, as a table keyed by the types of the parts of a method.

An entry computes what the parts compute, on the same state, to rounding; tests hold it to that. It saves the passes
over memory that separate parts must make. A method without an entry takes the ordinary path, and so does one with
something in a slot that the entry does not know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.core import Constant, Method
from precond.filters.ema import EMA
from precond.filters.heavy_ball import HeavyBall
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.identity import Identity
from precond.steps.decay import Coupled, Decoupled
from precond.steps.scaled import Scaled


@dataclasses.dataclass(frozen=True)
class Moved:
    """What one step moves: every list has one entry per parameter, in the parameters' own shape.

    Attributes:
        params: The parameters.
        grads: Their gradients.
        scatter: From a stacked tensor to its members.
        preconditioner: State of the preconditioner, stacked.
        momentum: State of the momentum, stacked.
    """

    params: list[Tensor]
    grads: list[Tensor]
    scatter: Callable[[Tensor], list[Tensor]]
    preconditioner: Any
    momentum: Any


Step = Callable[[Moved, Any, float], None]
"""Takes one step with a learning rate (a number or a tensor) and a weight decay."""


def fused_step(method: Method) -> Step | None:
    """Return the fused step of a method, if there is one."""
    if method.estimator is not None or method.smoothing is not None or method.clip is not None:
        return None
    if method.storage.encodes:
        return None
    if type(method.step) not in (Constant, Scaled):
        return None
    entry = _TABLE.get((type(method.momentum), type(method.preconditioner), type(method.decay)))
    step = None if entry is None else entry(method)
    if step is None or not isinstance(method.step, Scaled):
        return step
    whole, by = step, method.step.by  # a constant multiple of the learning rate, which weight decay sees too
    return lambda moved, lr, decay: whole(moved, lr * by, decay)


def fits(tensors: list[Tensor], dtype: torch.dtype) -> bool:
    """Whether a kernel may walk through these tensors side by side with contiguous state of this dtype."""
    return all(tensor.dtype == dtype and tensor.is_contiguous() for tensor in tensors)


def _adamw(method: Method) -> Step | None:
    average, squares = method.momentum, method.preconditioner
    assert isinstance(average, EMA)
    assert isinstance(squares, Diagonal)
    if not (average.debias and squares.debias) or squares.beta >= 1.0 or squares.eps_first:
        return None

    def step(moved: Moved, lr: Any, decay: float) -> None:
        moved.momentum.steps.add_(1)
        moved.preconditioner.steps.add_(1)
        first, second = moved.momentum.average, moved.preconditioner.second_moment
        counts = list(moved.momentum.steps.to(torch.float32).unbind(0))
        torch._fused_adamw_(
            moved.params, moved.grads, moved.scatter(first), moved.scatter(second), [], counts, lr=lr,
            beta1=average.beta, beta2=squares.beta, weight_decay=decay, eps=squares.eps, amsgrad=False, maximize=False,
        )  # fmt: skip

    return step


def _sgd(method: Method) -> Step | None:
    ball = method.momentum
    if isinstance(ball, HeavyBall) and ball.dampening:
        return None
    beta, nesterov = (ball.momentum, ball.nesterov) if isinstance(ball, HeavyBall) else (0.0, False)

    def step(moved: Moved, lr: Any, decay: float) -> None:
        velocities = [] if moved.momentum is None else moved.scatter(moved.momentum.velocity)
        torch._fused_sgd_(
            moved.params, moved.grads, velocities, weight_decay=decay, momentum=beta, lr=lr, dampening=0.0,
            nesterov=nesterov, maximize=False, is_first_step=False,
        )  # fmt: skip

    return step


_TABLE: dict[tuple[type, type, type], Callable[[Method], Step | None]] = {
    (EMA, Diagonal, Decoupled): _adamw,
    (HeavyBall, Identity, Coupled): _sgd,
    (type(None), Identity, Coupled): _sgd,
}
