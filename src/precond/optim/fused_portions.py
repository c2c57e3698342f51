"""Steps in few passes over memory, one portion of a tensor after the other: Lion and Adan.

They write into state and scratch what their parts must hand to one another as new tensors, borrow a kernel of PyTorch's
for the last passes, and finish a portion before they begin the next, so that it is read from a cache after the first
pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import Method
from precond.filters.adan import DifferenceMomentum, LookAhead
from precond.filters.lion import Interpolation
from precond.optim.whole_step import SMALL, Fused, Moved, surely_finite
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.observing import Observing
from precond.preconditioners.sign import Sign
from precond.steps.decay import Decoupled, Proximal

_PORTION = 2**18
"""Entries of a longer tensor that take all passes before the next ones take any, so that caches hold them."""


def _in_turn(*lists: Sequence[Any]) -> Iterator[tuple[Sequence[int], Sequence[Sequence[Any]]]]:
    """Yield positions and their tensors: all of them when they are small, else portions of one after the other."""
    length = lists[0][0].numel()
    if length <= SMALL or lists[0][0].device.type != "cpu":
        yield range(len(lists[0])), lists
        return
    for position in range(len(lists[0])):
        whole = [values[position] for values in lists]
        if length <= _PORTION:
            yield (position,), [(tensor,) for tensor in whole]
        else:
            flat = [tensor.view(-1).split(_PORTION) for tensor in whole]
            for portions in zip(*flat, strict=True):
                yield (position,), [(portion,) for portion in portions]


def lion(method: Method) -> Fused | None:
    """Return Lion in passes over portions."""
    mix, sign, shrink = method.momentum, method.preconditioner, method.decay
    assert isinstance(mix, Interpolation)
    assert isinstance(sign, Sign)
    assert isinstance(shrink, Decoupled)
    beta1, beta2, size = mix.beta1, mix.beta2, sign.size

    def step(moved: Moved, lr: Any, decay: float) -> list[int]:
        averages = moved.scatter(moved.momentum.average)
        small = moved.params[0].numel() <= SMALL
        if moved.finite if moved.device.type != "cpu" else small and surely_finite(moved.grads):
            signs = list(torch._foreach_lerp(moved.grads, averages, beta1))
            torch._foreach_sign_(signs)
            torch._foreach_lerp_(averages, moved.grads, 1.0 - beta2)
            shrink.move(moved.params, signs, lr * size, decay / size)
            return []
        lists = (moved.params, moved.grads, averages)
        return [position for position, whole in enumerate(zip(*lists, strict=True)) if not one(*whole, lr, decay)]

    def one(param: Tensor, gradient: Tensor, average: Tensor, lr: Any, decay: float) -> bool:
        """Move one parameter, unless its gradient is not finite; the mixture shows that, while it is in a cache."""
        if param.numel() > _PORTION:
            if not (surely_finite((gradient,)) or bool(gradient.isfinite().all())):
                return False
            pieces = [tensor.view(-1).split(_PORTION) for tensor in (param, gradient, average)]  # type: ignore[no-untyped-call]
            portions = list(zip(*pieces, strict=True))
        else:
            portions = [(param, gradient, average)]
        for part, new, old in portions:
            mixed = torch.lerp(new, old, beta1)
            known = part is not param or surely_finite((mixed,))
            if not (known or bool(gradient.isfinite().all())):
                return False
            old.lerp_(new, 1.0 - beta2)
            shrink.move([part], [mixed.sign_()], lr * size, decay / size)
        return True

    return Fused(step, checks=True)


def adan(method: Method) -> Fused | None:
    """Return Adan in passes over portions; ``None`` for variants that the kernel does not know."""
    ball, squares, shrink = method.momentum, method.preconditioner, method.decay
    assert isinstance(ball, DifferenceMomentum)
    assert isinstance(squares, Observing)
    assert isinstance(shrink, Proximal)
    ahead, root = squares.lens, squares.inner
    if not isinstance(ahead, LookAhead) or not isinstance(root, Diagonal):
        return None
    if not root.debias or root.beta >= 1.0 or root.eps_first:
        return None

    def step(moved: Moved, lr: Any, decay: float) -> None:
        moved.momentum.steps.add_(1)
        moved.preconditioner.inner.steps.add_(1)
        assert moved.previous is not None
        stacked = (moved.previous, moved.momentum.average, moved.momentum.difference)
        lists = [moved.scatter(s) for s in (*stacked, moved.preconditioner.inner.second_moment)]
        counts = moved.preconditioner.inner.steps.to(torch.float32).unbind(0)
        for positions, tensors in _in_turn(moved.params, moved.grads, *lists):
            ages = [moved.ages[position] + 1 for position in positions]
            if len(set(ages)) == 1:
                portion(*tensors, [counts[position] for position in positions], ages[0], lr, decay)
            else:  # members of different ages have different bias corrections
                for i, position in enumerate(positions):
                    portion(*([v[i]] for v in tensors), [counts[position]], ages[i], lr, decay)

    def portion(
        params: Any,
        grads: Any,
        previous: Any,
        average: Any,
        difference: Any,
        second: Any,
        counts: Any,
        age: int,
        lr: Any,
        decay: float,
    ) -> None:
        c1, c2 = (1.0 - b**age for b in (ball.beta1, ball.beta2))
        if age == 1:
            torch._foreach_copy_(previous, grads)
        for before, now in zip(previous, grads, strict=True):
            torch.sub(now, before, out=before)
        torch._foreach_lerp_(average, grads, 1.0 - ball.beta1)
        torch._foreach_lerp_(difference, previous, 1.0 - ball.beta2)
        for change, now in zip(previous, grads, strict=True):
            torch.add(now, change, alpha=ahead.beta, out=change)
        # With decay 1/2, AdamW's kernel averages what it is given as average and as gradient x: where the average is
        # m + (b2 c1 / c2) v - x, it moves along m / c1 + b2 v / c2, but for a factor on the learning rate.
        averages = torch._foreach_add(average, difference, alpha=ball.beta2 * c1 / c2)
        torch._foreach_sub_(averages, previous)
        factor = 2.0 * (1.0 - 0.5**age) / c1
        torch._fused_adamw_(
            params, previous, averages, second, [], counts, lr=lr * factor / (1.0 + lr * decay), beta1=0.5,
            beta2=root.beta, weight_decay=decay / factor, eps=root.eps, amsgrad=False, maximize=False,
        )  # fmt: skip
        torch._foreach_copy_(previous, grads)

    return Fused(step)
