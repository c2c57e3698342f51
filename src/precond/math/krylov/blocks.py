"""Products of a few long vectors with each other: compiled where they lie side by side, by torch elsewhere.

Measured with 16 vectors on one thread, in units of torch's product of two tall matrices: a fourth for 10 000 numbers, a
sixth for 90 000.
"""

from __future__ import annotations

import torch
from torch import Tensor

from precond.math.krylov import side


def gram(x: Tensor, y: Tensor) -> Tensor:
    """Return the inner products ``<x_i, y_j>``; shapes ``[h, n], [w, n] -> [h, w]``."""
    if _compiled(x, y):
        return torch.from_numpy(side.gram(x.numpy(), y.numpy()))
    return x.conj() @ y.mT


def combine(x: Tensor, factors: Tensor, out: Tensor) -> None:
    """Add ``sum_i factors_ij x_i`` to ``out_j``, in place; shapes ``[h, n], [h, w], [w, n]``."""
    if _compiled(x, out) and factors.dtype == x.dtype:
        side.combine(x.numpy(), factors.numpy(), out.numpy())
    else:
        out += factors.mT @ x


def _compiled(x: Tensor, y: Tensor) -> bool:
    """Whether both are real, of one type, on the CPU, and side by side, and there are loops for them."""
    fit = x.is_cpu and y.is_cpu and x.dtype == y.dtype and not x.is_complex()
    lie = x.mT.is_contiguous() and y.mT.is_contiguous()
    return fit and lie and x.numel() > 0 < y.numel() and side.available()
