"""A filter that treats each matrix in a tensor as a tensor of its own."""

from __future__ import annotations

import dataclasses
from typing import Any, final

from torch import Tensor

from precond.core import Evidence, Filter, Need, merge_members, split_members
from precond.math.tensors.stacks import Stack


@final
@dataclasses.dataclass(frozen=True)
class FilterPerMatrix(Filter[Any]):
    """Filter every matrix that a tensor holds by itself, so that one that is clipped does not clip the others.

    Attributes:
        stack: How tensors hold matrices.
        inner: The filter.
    """

    stack: Stack
    inner: Filter[Any]

    @property
    def needs(self) -> Need:
        """What the filter needs."""
        return self.inner.needs

    def init(self, like: Tensor) -> Any:
        """Start the filter on the matrices."""
        return split_members(self.inner.init(self.stack.take_apart(like)), like.shape[0])

    def push(self, state: Any, v: Tensor, evidence: Evidence) -> Tensor:
        """Filter the matrices."""
        apart = self.stack.take_apart
        filtered = self.inner.push(merge_members(state), apart(v), evidence.reshaped(apart))
        return self.stack.put_together(filtered, v.shape[1:])
