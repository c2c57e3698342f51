"""State that rests in sixteen bits, rounded to the nearest."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import Resting, Role, Storage


@final
@dataclasses.dataclass
class Nearest(Resting):
    """A tensor in fewer bits.

    Attributes:
        rounded: The tensor.
        dtype: Of the working form.
    """

    rounded: Tensor
    dtype: torch.dtype

    def decode(self) -> Tensor:
        """Return the tensor in its working dtype, exactly."""
        return self.rounded.to(self.dtype)

    def encode(self, working: Tensor) -> None:
        """Round to the nearest."""
        self.rounded.copy_(working)


@final
@dataclasses.dataclass(frozen=True)
class Rounded(Storage):
    """Round to the nearest number of bfloat16, which has the range of float32 and three digits.

    An average that moves by less than half a unit in the last place a step stands still; for slow ones there is
    `StochasticBFloat16`. Needs no random numbers.
    """

    def rest(self, working: Tensor, role: Role) -> Tensor | Resting:
        """Return the tensor in bfloat16."""
        return Nearest(working.to(torch.bfloat16).contiguous(), working.dtype)
