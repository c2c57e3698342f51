"""Matrices that are nearly orthogonal, made more so."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.math.machine.products import fast_products


def bjorck(matrices: Tensor, steps: int) -> Tensor:
    """Return ``V <- 1.5 V - 0.5 V V^T V`` after some steps: the singular values move to one, quadratically.

    Converges where all singular values lie in ``(0, sqrt(3))``.

    Source: A. Bjorck, C. Bowie, "An iterative algorithm for computing the best estimate of an orthogonal matrix", SIAM
    J. Numer. Anal. 8(2), 1971.

    Args:
        matrices: Shape ``[..., n, n]``.
        steps: How many; none returns ``matrices`` itself.

    Returns:
        The shape of ``matrices``.
    """
    with fast_products(matrices, matrices.numel() * matrices.shape[-1]):
        for _ in range(steps):
            flat = matrices.reshape(-1, *matrices.shape[-2:])
            gram = torch.bmm(flat.mT, flat)
            matrices = torch.baddbmm(flat, flat, gram, beta=1.5, alpha=-0.5).view(matrices.shape)
    return matrices


def restored(matrices: Tensor, loss: float) -> Tensor:
    """Return orthogonal matrices as they are while they have lost little of it, after one step of Bjorck where more.

    What is lost shows in one vector ``x``: in ``|V^T V x - x| / |x|``, at the cost of two products with it.

    Args:
        matrices: Shape ``[batch, n, n]``.
        loss: What may be lost.

    Returns:
        The shape and dtype of ``matrices``.
    """
    exact = matrices.to(torch.promote_types(matrices.dtype, torch.float32))
    probe = torch.cos(torch.arange(1.0, matrices.shape[-1] + 1.0, dtype=exact.dtype, device=exact.device))
    lost = exact.mT @ (exact @ probe)[..., None] - probe[:, None]
    due = (lost.squeeze(-1).norm(dim=-1) > loss * probe.norm()).nonzero()[:, 0]
    return matrices.index_copy(0, due, bjorck(matrices[due], 1)) if len(due) else matrices
