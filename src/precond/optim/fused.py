"""Whole steps in as few passes over memory as may be, as a table keyed by the types of the parts of a method.

An entry computes what the parts compute, on the same state, to rounding; tests hold it to that. AdamW and SGD are one
kernel of PyTorch's. Lion and Adan write into state and scratch what their parts must hand to one another as new
tensors, borrow a kernel for the last passes, and finish a portion of a tensor before they begin the next, so that it is
read from a cache after the first pass.
A method without an entry takes the ordinary path, and so does one with something in a slot that the entry does not
know.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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

    @property
    def device(self) -> torch.device:
        """Where all of it lives."""
        return self.params[0].device


Step = Callable[[Moved, Any, float], Any]
"""Takes one step with a learning rate (a number or a tensor) and a weight decay."""
Joint = Callable[[Sequence[Moved], Any, float], None]
"""Takes the steps of several slabs, whose members may have other shapes, in one call of a kernel."""


@dataclasses.dataclass(frozen=True)
class Fused:
    """A whole step.

    Attributes:
        run: Takes it.
        checks: Whether it leaves parameters alone whose gradients are not finite, and returns their positions; else
            gradients must be finite.
        joint: Takes it for several slabs together, where a kernel does that.
    """

    run: Step
    checks: bool = False
    joint: Joint | None = None

    @classmethod
    def of(cls, joint: Joint) -> Fused:
        """Return the step of a kernel that takes several slabs together."""
        return cls(lambda moved, lr, decay: joint((moved,), lr, decay), joint=joint)

    def scaled(self, by: float) -> Fused:
        """Return the step with a constant multiple of the learning rate, which weight decay sees too."""
        if self.joint is not None:
            joint = self.joint
            return Fused.of(lambda several, lr, decay: joint(several, lr * by, decay))
        return dataclasses.replace(self, run=lambda moved, lr, decay: self.run(moved, lr * by, decay))


def fused_step(method: Method) -> Fused | None:
    """Return the fused step of a method, if there is one."""
    if method.estimator is not None or method.smoothing is not None:
        return None
    if method.clip is not None or method.clip_estimates is not None:
        return None
    if method.storage.encodes:
        return None
    if type(method.step) not in (Constant, Scaled):
        return None
    entry = _TABLE.get((type(method.momentum), type(method.preconditioner), type(method.decay)))
    step = None if entry is None else entry(method)
    if step is None or not isinstance(method.step, Scaled):
        return step
    return step.scaled(method.step.by)


def fits(tensors: Sequence[Tensor], dtype: torch.dtype) -> bool:
    """Whether a kernel may walk through these tensors side by side with contiguous state of this dtype."""
    return all(tensor.dtype == dtype and tensor.is_contiguous() for tensor in tensors)


def surely_finite(*slabs: Sequence[Tensor]) -> bool:
    """Whether every entry of the tensors of some slabs is finite, from one sum: huge entries may be taken for bad.

    Args:
        *slabs: Contiguous tensors; those of one slab have one shape, and all have one dtype and device.

    Returns:
        Whether that is certain.
    """
    sums, mixed = [], []
    for tensors in slabs:
        if tensors[0].numel() > _SMALL:
            sums += [tensor.sum() for tensor in tensors]
        elif len(slabs) > 1:
            mixed += [tensor.view(-1) for tensor in tensors]
        else:
            sums.append(torch.stack(list(tensors)).sum())
    if mixed:
        sums.append(torch.cat(mixed).sum())
    total = sums[0] if len(sums) == 1 else torch.stack(sums).sum()
    return math.isfinite(total.item())


def _adamw(method: Method) -> Fused | None:
    average, squares = method.momentum, method.preconditioner
    assert isinstance(average, EMA)
    assert isinstance(squares, Diagonal)
    if not (average.debias and squares.debias) or squares.beta >= 1.0 or squares.eps_first:
        return None

    def step(several: Sequence[Moved], lr: Any, decay: float) -> None:
        steps = [moved.momentum.steps for moved in several]
        torch._foreach_add_(steps + [moved.preconditioner.steps for moved in several], 1)
        torch._fused_adamw_(
            _chain(moved.params for moved in several),
            _chain(moved.grads for moved in several),
            _chain(moved.scatter(moved.momentum.average) for moved in several),
            _chain(moved.scatter(moved.preconditioner.second_moment) for moved in several),
            [], list(torch.cat(steps).to(torch.float32).unbind(0)), lr=lr, beta1=average.beta, beta2=squares.beta,
            weight_decay=decay, eps=squares.eps, amsgrad=False, maximize=False,
        )  # fmt: skip

    return Fused.of(step)


def _sgd(method: Method) -> Fused | None:
    ball = method.momentum
    if isinstance(ball, HeavyBall) and ball.dampening:
        return None
    beta, nesterov = (ball.momentum, ball.nesterov) if isinstance(ball, HeavyBall) else (0.0, False)

    def step(several: Sequence[Moved], lr: Any, decay: float) -> None:
        momenta = [moved for moved in several if moved.momentum is not None]
        torch._fused_sgd_(
            _chain(moved.params for moved in several),
            _chain(moved.grads for moved in several),
            _chain(moved.scatter(moved.momentum.velocity) for moved in momenta), weight_decay=decay, momentum=beta,
            lr=lr, dampening=0.0, nesterov=nesterov, maximize=False, is_first_step=False,
        )  # fmt: skip

    return Fused.of(step)


def _chain(lists: Iterable[list[Tensor]]) -> list[Tensor]:
    return list(itertools.chain.from_iterable(lists))


_SMALL = 2**14
"""Entries of a tensor up to which the members of a slab take each pass together, to save calls."""
_PORTION = 2**18
"""Entries of a longer tensor that take all passes before the next ones take any, so that caches hold them."""


def _in_turn(*lists: Sequence[Any]) -> Iterator[tuple[Sequence[int], Sequence[Sequence[Any]]]]:
    """Yield positions and their tensors: all of them when they are small, else portions of one after the other."""
    length = lists[0][0].numel()
    if length <= _SMALL:
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


def _lion(method: Method) -> Fused | None:
    mix, sign, shrink = method.momentum, method.preconditioner, method.decay
    assert isinstance(mix, Interpolation)
    assert isinstance(sign, Sign)
    assert isinstance(shrink, Decoupled)
    beta1, beta2, size = mix.beta1, mix.beta2, sign.size

    def step(moved: Moved, lr: Any, decay: float) -> list[int]:
        averages = moved.scatter(moved.momentum.average)
        if moved.params[0].numel() <= _SMALL and surely_finite(moved.grads):
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


def _adan(method: Method) -> Fused | None:
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
        ages = list(zip(moved.momentum.steps.tolist(), moved.preconditioner.inner.steps.tolist(), strict=True))
        for positions, tensors in _in_turn(moved.params, moved.grads, *lists):
            if len({ages[position] for position in positions}) == 1:
                portion(*tensors, [counts[position] for position in positions], ages[positions[0]], lr, decay)
            else:  # members of different ages have different bias corrections
                for i, position in enumerate(positions):
                    portion(*([v[i]] for v in tensors), [counts[position]], ages[position], lr, decay)

    def portion(
        params: Any,
        grads: Any,
        previous: Any,
        average: Any,
        difference: Any,
        second: Any,
        counts: Any,
        age: Any,
        lr: Any,
        decay: float,
    ) -> None:
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

    return Fused(step)


_TABLE: dict[tuple[type, type, type], Callable[[Method], Fused | None]] = {
    (EMA, Diagonal, Decoupled): _adamw,
    (Interpolation, Sign, Decoupled): _lion,
    (DifferenceMomentum, Observing, Proximal): _adan,
    (HeavyBall, Identity, Coupled): _sgd,
    (type(None), Identity, Coupled): _sgd,
}
