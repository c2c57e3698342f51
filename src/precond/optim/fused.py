"""Whole steps in as few passes over memory as may be, as a table keyed by the types of the parts of a method.

An entry computes what the parts compute, on the same state, to rounding; tests hold it to that. AdamW and SGD are one
kernel of PyTorch's. Lion and Adan write into state and scratch what their parts must hand to one another as new
tensors, and finish one large tensor before they begin the next, so that it is read from a cache after the first pass.
A method without an entry takes the ordinary path, and so does one with something in a slot that the entry does not
know.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import Constant, Method
from precond.filters.adan import DifferenceMomentum, LookAhead
from precond.filters.ema import EMA
from precond.filters.heavy_ball import HeavyBall
from precond.filters.lion import Interpolation
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.identity import Identity
from precond.preconditioners.observing import Observing
from precond.preconditioners.sign import Sign
from precond.steps.decay import Coupled, Decoupled, Proximal
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
        previous: The gradient of the step before, stacked, if a part needs it.
    """

    params: list[Tensor]
    grads: list[Tensor]
    scatter: Callable[[Tensor], list[Tensor]]
    preconditioner: Any
    momentum: Any
    previous: Tensor | None = None


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


_SMALL = 2**14
"""Entries of a tensor up to which the members of a slab take each pass together, to save calls."""


def _in_turn(*lists: Sequence[Any]) -> Iterator[Sequence[Sequence[Any]]]:
    """Yield the lists whole when their tensors are small, else one position after the other."""
    if lists[0][0].numel() <= _SMALL:
        yield lists
    else:
        for position in range(len(lists[0])):
            yield [values[position : position + 1] for values in lists]


def _lion(method: Method) -> Step | None:
    mix, sign, shrink = method.momentum, method.preconditioner, method.decay
    assert isinstance(mix, Interpolation)
    assert isinstance(sign, Sign)
    assert isinstance(shrink, Decoupled)
    beta1, beta2, size = mix.beta1, mix.beta2, sign.size

    def step(moved: Moved, lr: Any, decay: float) -> None:
        for params, grads, averages in _in_turn(moved.params, moved.grads, moved.scatter(moved.momentum.average)):
            signs = torch._foreach_lerp(grads, averages, beta1)
            torch._foreach_sign_(signs)
            torch._foreach_lerp_(averages, grads, 1.0 - beta2)
            shrink.move(params, signs, lr * size, decay / size)

    return step


def _adan(method: Method) -> Step | None:
    ball, squares, shrink = method.momentum, method.preconditioner, method.decay
    assert isinstance(ball, DifferenceMomentum)
    assert isinstance(squares, Observing)
    assert isinstance(shrink, Proximal)
    ahead, root = squares.lens, squares.inner
    if not isinstance(ahead, LookAhead) or not isinstance(root, Diagonal):
        return None
    if not root.debias or root.beta >= 1.0 or root.eps_first:
        return None
    decays = ball.beta1, ball.beta2, root.beta

    def step(moved: Moved, lr: Any, decay: float) -> None:
        moved.momentum.steps.add_(1)
        moved.preconditioner.inner.steps.add_(1)
        assert moved.previous is not None
        stacked = (moved.previous, moved.momentum.average, moved.momentum.difference)
        lists = [moved.scatter(s) for s in (*stacked, moved.preconditioner.inner.second_moment)]
        counts = zip(moved.momentum.steps.tolist(), moved.preconditioner.inner.steps.tolist(), strict=True)
        for params, grads, *state, ages in _in_turn(moved.params, moved.grads, *lists, list(counts)):
            if len(set(ages)) == 1:
                portion(params, grads, *state, ages[0], lr, decay)
            else:  # members of different ages have different bias corrections
                for i, age in enumerate(ages):
                    portion(*([v[i]] for v in (params, grads, *state)), age, lr, decay)

    def portion(
        params: Any,
        grads: Any,
        previous: Any,
        average: Any,
        difference: Any,
        second: Any,
        age: Any,
        lr: Any,
        decay: float,
    ) -> None:
        c1, c2, c3 = (1.0 - b ** max(1, n) for b, n in zip(decays, (age[0], age[0], age[1]), strict=True))
        if age[0] == 1:
            torch._foreach_copy_(previous, grads)
        for before, now in zip(previous, grads, strict=True):
            torch.sub(now, before, out=before)
        torch._foreach_lerp_(average, grads, 1.0 - ball.beta1)
        torch._foreach_lerp_(difference, previous, 1.0 - ball.beta2)
        for change, now in zip(previous, grads, strict=True):
            torch.add(now, change, alpha=ahead.beta, out=change)
        torch._foreach_mul_(second, root.beta)
        torch._foreach_addcmul_(second, previous, previous, 1.0 - root.beta)
        torch._foreach_copy_(previous, grads)
        # (m / c1 + b2 v / c2) / (sqrt(n / c3) + eps) = (sqrt(c3) / c1) (m + (b2 c1 / c2) v) / (sqrt(n) + eps sqrt(c3))
        denominators = torch._foreach_sqrt(second)
        torch._foreach_add_(denominators, root.eps * math.sqrt(c3))
        updates = torch._foreach_add(average, difference, alpha=ball.beta2 * c1 / c2)
        torch._foreach_div_(updates, denominators)
        scale = math.sqrt(c3) / c1
        shrink.move(params, updates, lr * scale, decay / scale)

    return step


_TABLE: dict[tuple[type, type, type], Callable[[Method], Step | None]] = {
    (EMA, Diagonal, Decoupled): _adamw,
    (Interpolation, Sign, Decoupled): _lion,
    (DifferenceMomentum, Observing, Proximal): _adan,
    (HeavyBall, Identity, Coupled): _sgd,
    (type(None), Identity, Coupled): _sgd,
}
