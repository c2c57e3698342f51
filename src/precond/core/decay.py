"""How weight decay enters a step, and how a step is taken."""

from __future__ import annotations

import abc
from typing import ClassVar

from torch import Tensor


class Decay(abc.ABC):
    """Where weight decay enters. The learning rate and the decay factor belong to the parameter group."""

    reads_weights: ClassVar[bool] = False
    """Whether ``regularize`` uses the weights, so that the driver must gather them."""

    def regularize(self, gradient: Tensor, weight: Tensor | None, decay: float) -> Tensor:
        """Return the gradient that the method is to see; never writes to its arguments."""
        return gradient

    @abc.abstractmethod
    def move(self, weights: list[Tensor], updates: list[Tensor], lr: float | Tensor, decay: float) -> None:
        """Take ``w <- w - lr u`` with the decay where it belongs, in place.

        Args:
            weights: The parameter tensors.
            updates: The directions ``u``, one per weight.
            lr: Learning rate times the factor of the step rule.
            decay: Weight decay of the parameter group.
        """
