"""Cholesky factors of batches of positive definite matrices that survive bad members."""

from __future__ import annotations

import torch
from torch import Tensor

JITTERS = (0.0, 1e-14, 1e-10, 1e-6)
"""Multiples of the mean of the diagonal that are added to it, in order of attempt."""


def safe_cholesky(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Factor symmetric matrices; one bad member never spoils the others, and nothing raises.

    Args:
        matrices: Symmetric matrices, ``[batch, n, n]``; only the lower triangles are read.

    Returns:
        Lower triangular factors ``[batch, n, n]``, of the matrix with as little jitter as it takes, and a mask
        ``[batch]`` of the members that have none; their factors mean nothing.
    """
    mean = matrices.diagonal(dim1=-2, dim2=-1).mean(-1)
    finite = matrices.flatten(1).isfinite().all(1) & (mean > 0)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    work = torch.where(finite[:, None, None], matrices, identity)
    factors, info = torch.linalg.cholesky_ex(work)
    for jitter in JITTERS[1:]:
        if not bool((info != 0).any()):
            break
        again, retried = torch.linalg.cholesky_ex(work + (jitter * mean)[:, None, None] * identity)
        factors = torch.where((info == 0)[:, None, None], factors, again)
        info = torch.where(info == 0, info, retried)
    return factors, (info != 0) | ~finite
