"""State that rests in bfloat16, rounded at random so that small changes are not lost."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import Resting, Role, Storage
from precond.math.draws import halves


@final
@dataclasses.dataclass
class RoundedAtRandom(Resting):
    """A tensor in bfloat16.

    Attributes:
        rounded: The tensor.
        dtype: Of the working form.
        times: How often each member was rounded, ``[batch]``; determines the next draw.
    """

    rounded: Tensor
    dtype: torch.dtype
    times: Tensor

    def decode(self) -> Tensor:
        """Return the tensor in its working dtype, exactly."""
        return self.rounded.to(self.dtype)

    def encode(self, working: Tensor) -> None:
        """Round at random; what is not finite stays as it is."""
        # The upper half of a float32 is the bfloat16 below it in magnitude, the lower half the way to the next.
        bits = working.to(torch.float32).contiguous().view(torch.int32)
        self.times.add_(1)
        rounded = (bits + halves(self.times, bits)).bitwise_and_(-(1 << 16)).view(torch.float32)
        self.rounded.copy_(torch.where(working.isfinite(), rounded, working.to(torch.float32)))


@final
@dataclasses.dataclass(frozen=True)
class StochasticBFloat16(Storage):
    """Round to one of the two nearest bfloat16 numbers, each with the probability that makes the mean exact.

    An average that moves by less than half a unit in the last place of bfloat16 per step would stand still under
    rounding to nearest; here it moves in the mean (Gupta et al., arXiv 1502.02551). Meant for averages of gradients and
    of their squares: bases and roots of matrix methods lose their orthogonality to the three digits of bfloat16.

    What is drawn depends on how often a member was rounded alone, so that runs repeat and resume exactly.
    """

    def rest(self, working: Tensor, role: Role) -> Tensor | Resting:
        """Return the tensor rounded to the nearest."""
        times = torch.zeros(working.shape[0], dtype=torch.int64, device=working.device)
        return RoundedAtRandom(working.to(torch.bfloat16).contiguous(), working.dtype, times)
