"""Tensors that hold several matrices: experts, fused projections, convolution kernels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Stack:
    """How one tensor holds several matrices: cut evenly along one axis, and each piece flattened to ``(first, -1)``.

    Axes of length one vanish on the way. Experts ``[E, m, n]`` are ``Stack(0, E)``; query, key and value in one
    ``[3 d, d]`` are ``Stack(0, 3)``, in one ``[d, 3 d]`` ``Stack(1, 3)``; a kernel ``[out, in, h, w]`` is ``Stack()``.

    Attributes:
        axis: The axis to cut, the batch not counted.
        count: The number of matrices.
    """

    axis: int = 0
    count: int = 1

    def fits(self, dims: Sequence[int]) -> bool:
        """Whether a tensor with these axes can be cut so."""
        return 0 <= self.axis < len(dims) and self.count >= 1 and dims[self.axis] % self.count == 0

    def matrix(self, dims: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of one matrix: two axes at most, and one at least."""
        left = [n for n in self._cut(dims) if n != 1] or [1]
        return tuple(left) if len(left) <= 2 else (left[0], math.prod(left[1:]))

    def take_apart(self, v: Tensor) -> Tensor:
        """Return ``[batch * count, *matrix]`` from ``[batch, *dims]``; a view where the memory allows it."""
        dims = v.shape[1:]
        pieces = v.unflatten(self.axis + 1, (self.count, -1)).movedim(self.axis + 1, 1)
        return pieces.reshape(v.shape[0] * self.count, *self.matrix(dims))

    def put_together(self, matrices: Tensor, dims: Sequence[int]) -> Tensor:
        """Return ``[batch, *dims]`` from what `take_apart` returned for such a tensor."""
        pieces = matrices.reshape(-1, self.count, *self._cut(dims))
        return pieces.movedim(1, self.axis + 1).flatten(self.axis + 1, self.axis + 2)

    def _cut(self, dims: Sequence[int]) -> list[int]:
        return [n // self.count if axis == self.axis else n for axis, n in enumerate(dims)]
