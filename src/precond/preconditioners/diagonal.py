"""The square root of second moments, entry by entry: AdaGrad, RMSProp, Adam."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Need, Preconditioner, Role, Scope, Traits, need, rests_as
from precond.math.averages import debias


@dataclasses.dataclass
class DiagonalState:
    """State of `Diagonal`.

    Attributes:
        second_moment: Average or sum of squared gradients, ``[batch, *shape]``.
        steps: Gradients absorbed, ``[batch]``.
    """

    second_moment: Tensor = rests_as(Role.NON_NEGATIVE)
    steps: Tensor  # type: ignore[misc]  # rests_as gives no default


@final
@dataclasses.dataclass(frozen=True)
class Diagonal(Preconditioner[DiagonalState]):
    """``B = sqrt(s) + eps`` with ``s`` the second moment of each entry of the gradient.

    Sources: AdaGrad (Duchi et al., 2011), Adam (arXiv 1412.6980).

    Attributes:
        beta: Decay of the average; 1 sums instead, as AdaGrad does.
        eps: Added to the square root.
        debias: Divide the average by ``1 - beta^t``; a sum is never debiased.
        eps_first: Add ``eps`` before the bias correction rather than after it, as the published code of SOAP does.
    """

    needs: ClassVar[Need] = Need.GRADIENT
    scope: ClassVar[Scope] = Scope.ELEMENTWISE
    beta: float = 0.999
    eps: float = 1e-8
    debias: bool = True
    eps_first: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0.0 <= self.beta <= 1.0 and self.eps >= 0.0):
            raise BadInputError(f"beta must be in [0, 1] and eps not negative, not {self.beta} and {self.eps}")

    @property
    def traits(self) -> Traits:
        """A positive diagonal that moves with every gradient."""
        return Traits(fixed=False, shiftable=True)

    def init(self, like: Tensor) -> DiagonalState:
        """Start at zero."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)
        return DiagonalState(torch.zeros_like(like), steps)

    def observe(self, state: DiagonalState, evidence: Evidence) -> None:
        """Absorb the squares of a gradient."""
        gradient = need(evidence.gradient, "gradient")
        state.steps.add_(1)
        if self.beta == 1.0:
            state.second_moment.addcmul_(gradient, gradient)
        else:
            state.second_moment.mul_(self.beta).addcmul_(gradient, gradient, value=1.0 - self.beta)

    def apply(self, state: DiagonalState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``v / (sqrt(s) + eps + shift)``."""
        root = state.second_moment.sqrt()
        corrected = self.debias and self.beta < 1.0
        if self.eps_first or not corrected:
            root.add_(self.eps)
        if corrected:
            root.div_(debias(self.beta, state.steps, root).sqrt_())
            if not self.eps_first:
                root.add_(self.eps)
        if shift:
            root.add_(shift)
        return torch.div(v, root, out=root) if v.dtype == root.dtype else v / root
