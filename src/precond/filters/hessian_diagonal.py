"""An estimate of the diagonal of the Hessian."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Evidence, Filter, Need, NoState


@final
@dataclasses.dataclass(frozen=True)
class HessianDiagonal(Filter[NoState]):
    """``|z * H z|`` with random signs ``z`` in place of the vector: what Hutchinson's estimate says of ``|H_ii|``.

    Its mean square is ``sum_j H_ij^2``: rows that are large off the diagonal count as large. What is not finite is
    taken for zero.

    Source: Yao, Gholami, Shen, Mustafa, Keutzer, Mahoney (arXiv 2006.00719).

    Attributes:
        kernels: Replace it by its mean over all axes after the first two, which are those of convolution kernels.
    """

    needs: ClassVar[Need] = Need.PROBE | Need.SIGNS
    kernels: bool = True

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def push(self, state: NoState, v: Tensor, evidence: Evidence) -> Tensor:
        """Return the estimate; ``v`` is not looked at."""
        if evidence.probe is None:
            raise TypeError("evidence lacks a probe: the part must declare it in `needs`")
        z, product = evidence.probe
        size = (z * product).abs()
        size = torch.where(size.isfinite(), size, 0.0)
        if self.kernels and size.ndim > 3:
            size = size.mean(dim=tuple(range(3, size.ndim)), keepdim=True).expand_as(v)
        return size
