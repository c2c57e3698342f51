"""Memories of a few secant pairs of few variables, compiled on the CPU, where calls would cost more than arithmetic."""

from __future__ import annotations

import functools
from types import ModuleType

import torch
from torch import Tensor

NUMBERS = 2**18
"""Numbers in the pairs of a memory up to which one thread is the fastest way through them."""


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.dense import secant_kernels

    return secant_kernels


def small(s: Tensor) -> bool:
    """Return whether pairs ``[batch, m, n]`` are what the functions below take: few numbers in the CPU's memory."""
    return s.is_cpu and s.numel() <= NUMBERS and s.dtype in (torch.float64, torch.float32)


def absorb(
    secant: tuple[Tensor, Tensor], s: Tensor, y: Tensor, triangle: Tensor, scale: Tensor, count: Tensor,
    curvature: float,
) -> None:  # fmt: skip
    """Write a pair in place of the oldest, for members whose pair shows curvature.

    Args:
        secant: Differences of points and of gradients, ``[batch, n]`` each.
        s: The ring of scaled differences of points, ``[batch, m, n]``.
        y: That of gradients.
        triangle: ``s_i' y_j`` from the oldest to the newest, ``[batch, m, m]``.
        scale: The diagonal of the initial inverse Hessian, ``[batch, 1]`` or ``[batch, n]``; the pair's is
            written.
        count: Pairs absorbed so far, ``[batch]``.
        curvature: What ``s'y`` must exceed, as a share of ``||s|| ||y||``.
    """
    new = (v.detach().contiguous().numpy() for v in secant)
    _kernels().absorb(*new, *(v.numpy() for v in (s, y, triangle, scale, count)), curvature)


def two_loops(v: Tensor, s: Tensor, y: Tensor, scale: Tensor, count: Tensor) -> Tensor:
    """Return the inverse Hessian's product with each row of ``v`` ``[batch, n]``, by the recursion of two loops.

    Args:
        v: The vectors.
        s: The ring of scaled differences of points, ``[batch, m, n]``.
        y: That of gradients.
        scale: The diagonal of the initial inverse Hessian, ``[batch, 1]`` or ``[batch, n]``.
        count: Pairs absorbed so far, ``[batch]``.

    Returns:
        The products, ``[batch, n]``.
    """
    v = v.detach().contiguous()
    out = torch.empty_like(v)
    _kernels().two_loops(*(each.numpy() for each in (v, s, y, scale, count, out)))
    return out
