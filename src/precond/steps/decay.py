"""Five ways in which weight decay enters a step."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Decay

_HALF = frozenset((torch.float16, torch.bfloat16))


class _InPlace(Decay):
    """Moves half-precision weights in the precision of their updates, rounding once."""

    def move(self, weights: list[Tensor], updates: list[Tensor], lr: float | Tensor, decay: float) -> None:
        """Take ``w <- w - lr u`` with the decay where it belongs, in place."""
        if not weights:
            return
        if isinstance(lr, Tensor):
            lr = lr.to(weights[0].device)
        if not _HALF.isdisjoint([weight.dtype for weight in weights]):
            working = [weight.to(update.dtype) for weight, update in zip(weights, updates, strict=True)]
            self._move(working, updates, lr, decay)
            torch._foreach_copy_(weights, working)
        else:
            self._move(weights, updates, lr, decay)

    @abc.abstractmethod
    def _move(self, weights: list[Tensor], updates: list[Tensor], lr: float | Tensor, decay: float) -> None: ...


@final
@dataclasses.dataclass(frozen=True)
class Decoupled(_InPlace):
    """Shrink first: ``w <- (1 - lr decay) w - lr u``.

    Source: AdamW (arXiv 1711.05101), as `torch.optim.AdamW` has it.
    """

    def _move(self, weights: list[Tensor], updates: list[Tensor], lr: float | Tensor, decay: float) -> None:
        if decay and not isinstance(lr, Tensor) and _side_by_side(weights, updates):  # in one pass
            _shrink_and_descend(weights, updates, lr, decay)
            return
        if decay:
            torch._foreach_mul_(weights, 1.0 - lr * decay)
        _descend(weights, updates, lr)


@final
@dataclasses.dataclass(frozen=True)
class DecoupledAfter(_InPlace):
    """Shrink the moved weights: ``w <- (1 - lr decay) (w - lr u)``.

    Source: the published code of SOAP (arXiv 2409.11321).
    """

    def _move(self, weights: list[Tensor], updates: list[Tensor], lr: float | Tensor, decay: float) -> None:
        if decay and not isinstance(lr, Tensor) and lr * decay < 1.0 and _side_by_side(weights, updates):  # in one pass
            shrunk = 1.0 - lr * decay
            _shrink_and_descend(weights, updates, lr * shrunk, decay / shrunk)
            return
        _descend(weights, updates, lr)
        if decay:
            torch._foreach_mul_(weights, 1.0 - lr * decay)


@final
@dataclasses.dataclass(frozen=True)
class Proximal(_InPlace):
    """Shrink by the proximal map of the squared norm: ``w <- (w - lr u) / (1 + lr decay)``.

    Source: Adan (arXiv 2208.06677).
    """

    def _move(self, weights: list[Tensor], updates: list[Tensor], lr: float | Tensor, decay: float) -> None:
        _descend(weights, updates, lr)
        if decay:
            torch._foreach_div_(weights, 1.0 + lr * decay)


@final
@dataclasses.dataclass(frozen=True)
class Independent(_InPlace):
    """Shrink first, whatever the learning rate: ``w <- (1 - decay) w - lr u``.

    Source: the published code of EFCP (arXiv 2306.06098).
    """

    def _move(self, weights: list[Tensor], updates: list[Tensor], lr: float | Tensor, decay: float) -> None:
        if decay:
            torch._foreach_mul_(weights, 1.0 - decay)
        _descend(weights, updates, lr)


@final
@dataclasses.dataclass(frozen=True)
class Coupled(_InPlace):
    """Add the gradient of ``decay / 2 ||w||^2`` to the gradient, before anything else sees it: L2 regularization."""

    reads_weights: ClassVar[bool] = True

    def regularize(self, gradient: Tensor, weight: Tensor | None, decay: float) -> Tensor:
        """Return ``g + decay w``."""
        return gradient if weight is None or not decay else torch.add(gradient, weight, alpha=decay)

    def _move(self, weights: list[Tensor], updates: list[Tensor], lr: float | Tensor, decay: float) -> None:
        _descend(weights, updates, lr)


def _side_by_side(weights: list[Tensor], updates: list[Tensor]) -> bool:
    """Whether a fused kernel may walk through weights and updates side by side."""
    alike = [weight.dtype for weight in weights] == [update.dtype for update in updates]
    return alike and all(map(Tensor.is_contiguous, weights)) and all(map(Tensor.is_contiguous, updates))


def _shrink_and_descend(weights: list[Tensor], updates: list[Tensor], lr: float, decay: float) -> None:
    """Take ``w <- w - lr (u + decay w)``."""
    torch._fused_sgd_(
        weights, updates, [], weight_decay=decay, momentum=0.0, lr=lr, dampening=0.0, nesterov=False, maximize=False,
        is_first_step=False,
    )  # fmt: skip
    torch.autograd.graph.increment_version(weights)  # so that graphs which hold them are known to be out of date


def _descend(weights: list[Tensor], updates: list[Tensor], lr: float | Tensor) -> None:
    if isinstance(lr, Tensor):
        torch._foreach_sub_(weights, torch._foreach_mul(updates, lr))
    elif weights[0].device.type == "cpu" and _side_by_side(weights, updates):  # in one call
        _shrink_and_descend(weights, updates, lr, 0.0)
    else:
        torch._foreach_add_(weights, updates, alpha=-lr)
