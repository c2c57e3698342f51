"""Matrices that are nearly orthogonal, made more so."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.math.products import fast_products


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
