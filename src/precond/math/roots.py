"""Inverse roots of batches of symmetric positive definite matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.math.eigen import inf_norm, safe_eigh
from precond.math.products import fast_products


def damped_root(values: Tensor, vectors: Tensor, p: float, damping: float, floor: float = 0.0) -> Tensor:
    """Return ``V diag(l)^(-1/p) V^T``, the spectrum lifted as a whole where its least value is below ``damping``.

    Source: the published code of Distributed Shampoo (arXiv 2309.06497), but for ``floor``.

    Args:
        values: Eigenvalues, shape ``[batch, n]``.
        vectors: Eigenvectors in columns, shape ``[batch, n, n]``.
        p: Order of the root, positive; need not be an integer.
        damping: Least eigenvalue to take a root of.
        floor: Eigenvalues below this fraction of the largest are raised to it.

    Returns:
        Shape ``[batch, n, n]``.
    """
    least = values.amin(-1, keepdim=True)
    lifted = torch.where(least < damping, values - least + damping, values)
    lifted = torch.maximum(lifted, floor * lifted.amax(-1, keepdim=True)).clamp(min=torch.finfo(values.dtype).tiny)
    half = vectors * lifted.pow(-0.5 / p)[:, None, :]
    with fast_products(half, half.numel() * half.shape[-1]):
        return torch.bmm(half, half.mT)


def inverse_root(matrices: Tensor, p: float, *, eps: float | None = None) -> tuple[Tensor, Tensor]:
    """Return ``A^(-1/p)`` by an eigendecomposition, for each matrix of a batch.

    Each matrix is divided by a bound on its largest eigenvalue before the root is taken, and the root rescaled, so that
    the size of ``A`` is no matter. Eigenvalues below ``eps`` times the largest are raised to that floor: rounding makes
    them meaningless, and negative ones have no root.

    Args:
        matrices: Symmetric positive semidefinite matrices, shape ``[batch, n, n]``.
        p: Order of the root, positive; need not be an integer.
        eps: Relative floor on the eigenvalues; the machine epsilon unless given.

    Returns:
        The roots ``[batch, n, n]``, and a mask ``[batch]`` of members without one (an entry is not
        finite, or the decomposition failed). Their root, and that of a zero matrix, is the identity.
    """
    n = matrices.shape[-1]
    if eps is None:
        eps = torch.finfo(matrices.dtype).eps
    bound = inf_norm(matrices)
    scale = torch.where(bound.isfinite() & (bound > 0), bound, 1.0)
    values, vectors, failed = safe_eigh(matrices / scale[:, None, None])
    largest = values[:, -1:]
    trivial = failed | ~(largest[:, 0] > 0)
    powers = torch.clamp(values, min=eps * largest).clamp(min=torch.finfo(values.dtype).tiny).pow(-0.5 / p)
    half = vectors * powers[:, None, :]  # A^(-1/p) = (V l^(-1/2p)) (V l^(-1/2p))^T
    with fast_products(half, half.numel() * n):
        roots = torch.bmm(half, half.mT)
    roots = roots * scale.pow(-1.0 / p)[:, None, None]
    identity = torch.eye(n, dtype=matrices.dtype, device=matrices.device)
    return torch.where(trivial[:, None, None], identity, roots), failed
