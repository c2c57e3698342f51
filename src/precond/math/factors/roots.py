"""Inverse roots of batches of symmetric positive definite matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.math.factors.eigen import inf_norm, safe_eigh, scaled_eigh
from precond.math.machine.products import fast_products


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


_MORE = 8
"""Random vectors beyond the rank that is looked for."""


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
    values, vectors, scale, failed = scaled_eigh(matrices)
    largest = values[:, -1:]
    trivial = failed | ~(largest[:, 0] > 0)
    powers = torch.clamp(values, min=eps * largest).clamp(min=torch.finfo(values.dtype).tiny).pow(-0.5 / p)
    half = vectors * powers[:, None, :]  # A^(-1/p) = (V l^(-1/2p)) (V l^(-1/2p))^T
    with fast_products(half, half.numel() * n):
        roots = torch.bmm(half, half.mT)
    roots = roots * scale.pow(-1.0 / p)[:, None, None]
    identity = torch.eye(n, dtype=matrices.dtype, device=matrices.device)
    return torch.where(trivial[:, None, None], identity, roots), failed


def _rounded(width: int) -> int:
    """Return a number, at most half larger, of few in all: kernels are made and kept for each shape they meet."""
    unit = 2 ** max(0, width.bit_length() - 2)
    return -(-width // unit) * unit


def low_rank_inverse_root(
    matrices: Tensor, p: float, ridge: Tensor, rank: int, *, eps: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return ``(ridge I + S)^(-1/p)`` for ``S`` of low rank: what `inverse_root` returns, from thin products.

    The range of ``S`` is found by multiplying a few more random vectors than it has dimensions (Halko, Martinsson,
    Tropp, arXiv 0909.4061), the same ones each time; outside of it the root is that of the ridge.

    Args:
        matrices: ``ridge I + S``, shape ``[batch, n, n]``.
        p: Order of the root, positive.
        ridge: Shape ``[batch]``, not negative.
        rank: A bound on the rank of ``S``.
        eps: Relative floor on the eigenvalues; the machine epsilon unless given.

    Returns:
        The roots and a mask of members without one, as `inverse_root` does.
    """
    n, dtype = matrices.shape[-1], matrices.dtype
    eps = torch.finfo(dtype).eps if eps is None else eps
    bound = inf_norm(matrices)
    usable = bound.isfinite() & (bound > 0)
    scale = torch.where(usable, bound, 1.0)
    identity = torch.eye(n, dtype=dtype, device=matrices.device)
    low = torch.where(usable[:, None, None], matrices / scale[:, None, None], identity)
    ridge = torch.where(usable, ridge / scale, 0.0).to(dtype)
    low = low - ridge[:, None, None] * identity
    width = min(n, _rounded(rank + _MORE))
    probes = torch.randn(n, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(low)
    with fast_products(low, low.numel() * width):
        found = torch.linalg.qr(low @ probes).Q
        values, vectors, failed = safe_eigh(found.mT @ (low @ found))
        vectors = found @ vectors
        values = values + ridge[:, None]
        floor = (eps * values[:, -1:]).clamp(min=torch.finfo(dtype).tiny)
        outside = torch.maximum(ridge[:, None], floor).pow(-1.0 / p)
        powers = torch.maximum(values, floor).pow(-1.0 / p)
        roots = (vectors * (powers - outside)[:, None, :]) @ vectors.mT + outside[..., None] * identity
    failed = failed | ~bound.isfinite()
    trivial = failed | ~usable | ~(values[:, -1] > 0)
    roots = roots * scale.pow(-1.0 / p)[:, None, None]
    return torch.where(trivial[:, None, None], identity, roots), failed
