"""Estimators of the gradient for all parameters of a step at once, ahead of a kernel: MARS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.core import Filter
from precond.filters.chain import Chain
from precond.filters.clip import ClipNorm
from precond.filters.mars import Mars
from precond.optim.whole_step import Ages, Fused, Joint, Lists, Moved

Estimate = Callable[[list[Tensor], list[Tensor], list[int]], list[Tensor]]
"""From gradients, those of the step before and how many each parameter has absorbed, to new tensors."""


def estimate(estimator: Filter[Any]) -> Estimate | None:
    """Return what an estimator does to lists of tensors, if that is known; it keeps nothing but the last gradient."""
    links = tuple(estimator.filters) if isinstance(estimator, Chain) else (estimator,)
    if not links or not isinstance(links[0], Mars) or not all(isinstance(link, ClipNorm) for link in links[1:]):
        return None
    mars = links[0]
    if mars.exact or mars.from_zero:
        return None
    limits = [link.limit for link in links[1:] if isinstance(link, ClipNorm)]

    def corrected(grads: list[Tensor], previous: list[Tensor], ages: list[int]) -> list[Tensor]:
        before = [grad if age == 1 else last for grad, last, age in zip(grads, previous, ages, strict=True)]
        result = list(torch._foreach_lerp(grads, before, mars.change))
        for limit in limits:
            norms = torch.stack(torch._foreach_norm(result))
            torch._foreach_mul_(result, list((limit / norms.clamp(min=limit)).unbind(0)))
        return result

    return corrected


def behind(fused: Fused, estimated: Estimate) -> Fused:
    """Return the step of a kernel that is shown estimates in place of gradients, and keeps these for the next step.

    Args:
        fused: The step of a kernel that counts gradients first, and does without the gradient of the step before.
        estimated: Makes estimates.

    Returns:
        The step.
    """
    inner = fused.joint

    def kernel(params: list[Tensor], grads: list[Tensor], lists: Lists, ages: Ages, lr: Any, decay: float) -> None:
        previous, *others = lists
        found = estimated(grads, previous, ages.numbers[0])
        torch._foreach_copy_(previous, grads)
        inner.kernel(params, found, others, ages, lr, decay)

    def tensors(moved: Moved) -> tuple[Tensor, ...]:
        assert moved.previous is not None
        return moved.previous, *inner.tensors(moved)

    return Fused.of(Joint(kernel, tensors, inner.counters))
