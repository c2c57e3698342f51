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
from precond.math.norms import usable_members
from precond.optim.whole_step import SMALL, Ages, Fused, Joint, Lists, Moved, Vectors, surely_finite
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.observing import Observing
from precond.preconditioners.sign import Sign
from precond.steps.decay import Decoupled, Proximal

_TOGETHER = 2**17
"""Entries of several tensors that take each pass together, however long single ones are: caches hold them all."""
_PORTION = 2**18
"""Entries of a longer tensor that take all passes before the next ones take any, so that caches hold them."""


def _in_turn(*lists: Sequence[Any]) -> Iterator[tuple[Sequence[int], Any]]:
    """Yield positions and their tensors: all small ones together, then portions of one after the other.

    What is not on the processor counts as small: no cache there holds a portion between two kernels.
    """
    sizes = [tensor.numel() for tensor in lists[0]]
    if sum(sizes) <= _TOGETHER or lists[0][0].device.type != "cpu":
        yield range(len(sizes)), lists
        return
    small = [i for i, size in enumerate(sizes) if size <= SMALL]
    if small:
        yield small, [[values[position] for position in small] for values in lists]
    for position, first in enumerate(lists[0]):
        whole = [values[position] for values in lists]
        if SMALL < first.numel() <= _PORTION:
            yield (position,), [(tensor,) for tensor in whole]
        elif first.numel() > SMALL:
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

    def kernel(params: list[Tensor], grads: list[Tensor], lists: Lists, ages: Ages, lr: Any, decay: float) -> None:
        for _, tensors in _in_turn(params, grads, *lists):
            weights, news, olds = (list(each) for each in tensors)
            signs = list(torch._foreach_lerp(news, olds, beta1))
            torch._foreach_sign_(signs)
            torch._foreach_lerp_(olds, news, 1.0 - beta2)
            shrink.move(weights, signs, lr * size, decay / size)

    def flat(whole: Vectors, lr: Any, decay: float) -> bool:
        (average,) = whole.states
        later = torch.lerp(average, whole.gradient, 1.0 - beta2)
        torch.lerp(whole.gradient, average, beta1, out=average).sign_()  # there are views of this memory already
        shrink.move(whole.params, whole.lists[0], lr * size, decay / size)
        average.copy_(later)
        return True

    def step(moved: Moved, lr: Any, decay: float) -> list[int]:
        averages = moved.scatter(moved.momentum.average)
        lists = (moved.params, moved.grads, averages)
        return [position for position, whole in enumerate(zip(*lists, strict=True)) if not one(*whole, lr, decay)]

    def one(param: Tensor, gradient: Tensor, average: Tensor, lr: Any, decay: float) -> bool:
        """Move one parameter, unless its gradient is not finite; the mixture shows that, while it is in a cache."""
        if param.numel() > _PORTION:
            if not (surely_finite((gradient,)) or bool(usable_members(gradient[None]))):
                return False
            pieces = [tensor.view(-1).split(_PORTION) for tensor in (param, gradient, average)]
            portions = list(zip(*pieces, strict=True))
        else:
            portions = [(param, gradient, average)]
        for part, new, old in portions:
            mixed = torch.lerp(new, old, beta1)
            known = part is not param or surely_finite((mixed,))
            if not (known or bool(usable_members(gradient[None]))):
                return False
            old.lerp_(new, 1.0 - beta2)
            shrink.move([part], [mixed.sign_()], lr * size, decay / size)
        return True

    joint = Joint(kernel, tensors=lambda moved: (moved.momentum.average,), counters=lambda _: (), flat=flat)
    return Fused(step, checks=True, joint=joint)


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

    def kernel(params: list[Tensor], grads: list[Tensor], lists: Lists, ages: Ages, lr: Any, decay: float) -> None:
        counts = ages.floats(1)
        pairs = list(zip(*ages.numbers, strict=True))
        for positions, tensors in _in_turn(params, grads, *lists):
            if len({pairs[position] for position in positions}) == 1:
                portion(tensors, [counts[position] for position in positions], pairs[positions[0]], lr, decay)
            else:  # members of different ages have different bias corrections
                for i, position in enumerate(positions):
                    portion([[v[i]] for v in tensors], [counts[position]], pairs[position], lr, decay)

    def flat(whole: Vectors, lr: Any, decay: float) -> bool:
        pairs = set(zip(*whole.ages.numbers, strict=True))
        if len(pairs) > 1:
            return False
        direction = torch.zeros_like(whole.gradient)
        tensors = [[vector] for vector in (direction, whole.gradient, *whole.states)]
        portion(tensors, [whole.ages.counters[1][0].float()], pairs.pop(), -1.0, 0.0)
        whole.states[0].copy_(direction)  # there are views of this memory already
        shrink.move(whole.params, whole.lists[0], lr, decay)
        whole.states[0].copy_(whole.gradient)
        return True

    def portion(tensors: Any, counts: list[Tensor], age: tuple[int, int], lr: Any, decay: float) -> None:
        params, grads, previous, average, difference, second = tensors
        c1, c2 = (1.0 - b ** max(1, age[0]) for b in (ball.beta1, ball.beta2))
        if age[0] == 1:
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
        factor = 2.0 * (1.0 - 0.5 ** age[1]) / c1
        torch._fused_adamw_(
            params, previous, averages, second, [], counts, lr=lr * factor / (1.0 + lr * decay), beta1=0.5,
            beta2=root.beta, weight_decay=decay / factor, eps=root.eps, amsgrad=False, maximize=False,
        )  # fmt: skip
        torch._foreach_copy_(previous, grads)

    def tensors(moved: Moved) -> tuple[Tensor, ...]:
        assert moved.previous is not None
        averages = moved.momentum.average, moved.momentum.difference
        return (moved.previous, *averages, moved.preconditioner.inner.second_moment)

    return Fused.of(
        Joint(kernel, tensors, lambda moved: (moved.momentum.steps, moved.preconditioner.inner.steps), flat)
    )
