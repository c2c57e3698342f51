"""Norms of the members of a batch, and cheap estimates of spectral norms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_UNSCALED = 4
"""Power iterations without a division. Where the largest entry is one, none shortens what began as the longest column,
and none lengthens it by more than the side of the matrix."""
_ROOT_TINY = 1e-18  # norms below it, in single precision, may have lost squares


def all_finite(v: Tensor) -> bool:
    """Whether every entry is finite, by their sum: what is finite but huge may be called otherwise."""
    return math.isfinite(v.sum().item())


def member_norm(v: Tensor) -> Tensor:
    """Return the Euclidean norm of each member of ``[batch, *shape]``, as ``[batch, 1, ..., 1]`` to broadcast."""
    if v.ndim == 1:  # an empty list of axes would mean all of them
        return v.abs()
    return torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)


def largest_usable(dtype: torch.dtype) -> float:
    """Return the size beyond which squares overflow, and with them all statistics of second order."""
    return float(torch.finfo(dtype).max ** 0.5)


def usable_members(v: Tensor) -> Tensor:
    """Return which members of ``[batch, *shape]`` are finite, and so small that the sum of their squares is."""
    return torch.linalg.vector_norm(v.reshape(v.shape[0], -1), dim=1).isfinite()


def whole_norm(v: Tensor) -> Tensor:
    """Return the Euclidean norm of all entries, 0-d; also where their squares are beyond the range of numbers."""
    norm = torch.linalg.vector_norm(v)
    if _ROOT_TINY < float(norm) < math.inf or not v.numel():
        return norm
    size = v.abs().amax()
    return size * torch.linalg.vector_norm(v / size) if 0 < float(size) < math.inf else norm


def joint_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of several tensors as one vector, 0-d, float64; those with bad entries are left out.

    To the last bit, it does not depend on the order of the tensors.
    """
    total = torch.zeros((), dtype=torch.float64, device=tensors[0].device if tensors else None)
    squares = [total]
    for v in tensors:
        size = v.abs().amax() if v.numel() else torch.zeros((), device=v.device)
        size = size.to(torch.promote_types(v.dtype, torch.float32))
        scale = torch.where(size > 0, size, 1.0)  # squares of huge entries overflow
        square = torch.linalg.vector_norm(v / scale).to(total) ** 2 * scale.to(total) ** 2
        squares.append(torch.where(size.to(total).isfinite(), square, 0.0))
    return torch.stack(squares).sort().values.sum().sqrt()


def largest_eigenvalue(matrices: Tensor, steps: int = 8) -> Tensor:
    """Estimate the largest eigenvalue of symmetric positive semidefinite matrices from below, by power iterations.

    Args:
        matrices: Shape ``[batch, n, n]``.
        steps: Products with each matrix, after the first, which is its column of largest norm.

    Returns:
        Shape ``[batch]``; at least the largest column norm.
    """
    return largest_singular_value(matrices, steps)


def largest_singular_value(matrices: Tensor, steps: int = 8) -> Tensor:
    """Estimate the largest singular value of symmetric or skew-symmetric matrices from below, by power iterations.

    Args:
        matrices: Shape ``[batch, n, n]``.
        steps: Products with each matrix, after the first, which is its column of largest norm.

    Returns:
        Shape ``[batch]``; at least the largest column norm.
    """
    scale = matrices.abs().amax((-2, -1), keepdim=True)
    work = matrices / torch.where(scale > 0, scale, 1.0)
    column = torch.linalg.vector_norm(work, dim=-2).argmax(-1)
    v = work.gather(-1, column[:, None, None].expand(-1, work.shape[-1], 1))
    tiny = torch.finfo(matrices.dtype).tiny
    before = v
    for step in range(steps):
        if step % _UNSCALED == 0:
            v = v / torch.linalg.vector_norm(v, dim=-2, keepdim=True).clamp(min=tiny)
        before, v = v, torch.bmm(work, v)
    sizes = [torch.linalg.vector_norm(each, dim=(-2, -1)) for each in (v, before)]
    return sizes[0] / sizes[1].clamp(min=tiny) * scale[:, 0, 0]
