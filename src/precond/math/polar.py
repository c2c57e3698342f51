"""Polar factors of batches of matrices: the nearest (semi-)orthogonal matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.math.products import fast_products, has_fast_bfloat16

MUON_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic of Jordan et al. (2024): steep at zero, and content to land singular values near, not at, one."""

_LARGE = 128
"""Shorter side from which on a processor's bfloat16 is worth its rounding."""


def polar(
    matrices: Tensor,
    steps: int = 5,
    coefficients: tuple[float, float, float] = MUON_COEFFICIENTS,
    dtype: torch.dtype | None = None,
    floor: float = 1e-7,
) -> Tensor:
    """Return approximate polar factors by Newton-Schulz iterations ``X <- a X + b (X X^T) X + c (X X^T)^2 X``.

    Zero matrices stay zero; a member with an entry that is not finite gives NaN and leaves the other members alone.

    Args:
        matrices: Shape ``[..., m, n]``, floating point.
        steps: Number of iterations.
        coefficients: ``(a, b, c)``.
        dtype: Dtype to work in; by default float64 for float64, else bfloat16 where the device multiplies it natively
            (CUDA devices; large matrices on processors with AVX512-BF16 or AMX), and float32 elsewhere.
        floor: Added to the Frobenius norm before dividing by it, so that tiny matrices give small factors.

    Returns:
        Shape and dtype of ``matrices``.
    """
    if matrices.ndim < 2:
        raise ValueError(f"a polar factor needs matrices, not shape {tuple(matrices.shape)}: reshape to [m, n] first")
    if matrices.numel() == 0:
        return matrices.clone()
    # Dividing by the largest entry first keeps the sum of squares from overflowing or vanishing.
    x = matrices.to(torch.promote_types(matrices.dtype, torch.float32))
    largest = x.abs().amax((-2, -1), keepdim=True)
    largest = torch.where(largest == 0, 1.0, largest)
    x = x / largest
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + floor / largest)
    x = x.to(_working_dtype(matrices) if dtype is None else dtype).reshape(-1, *matrices.shape[-2:])
    tall = x.shape[-2] > x.shape[-1]
    x = x.contiguous()
    spare = torch.empty_like(x)
    gram = x.new_empty(x.shape[0], min(x.shape[1:]), min(x.shape[1:]))
    polynomial = torch.empty_like(gram)
    a, b, c = coefficients
    with fast_products(x, x.numel() * gram.shape[-1]):
        for _ in range(steps):  # on the shorter side: X p(X^T X) = p(X X^T) X
            torch.bmm(*((x.mT, x) if tall else (x, x.mT)), out=gram)
            torch.baddbmm(gram, gram, gram, beta=b, alpha=c, out=polynomial)
            torch.baddbmm(x, *((x, polynomial) if tall else (polynomial, x)), beta=a, out=spare)
            x, spare = spare, x
    return x.reshape(matrices.shape).to(matrices.dtype)


def polar_exact(matrices: Tensor) -> Tensor:
    """Return ``U V^T`` of the reduced singular value decomposition, for each matrix of ``[..., m, n]``.

    Directions whose singular value is below rounding are left out, so that a zero matrix gives zero. A member with an
    entry that is not finite gives NaN.
    """
    if matrices.ndim < 2:
        raise ValueError(f"a polar factor needs matrices, not shape {tuple(matrices.shape)}: reshape to [m, n] first")
    if matrices.numel() == 0:
        return matrices.clone()
    work = matrices.to(torch.promote_types(matrices.dtype, torch.float32))
    finite = work.isfinite().all(-1).all(-1)[..., None, None]
    u, s, vt = torch.linalg.svd(torch.where(finite, work, 0.0), full_matrices=False)
    floor = max(matrices.shape[-2:]) * torch.finfo(work.dtype).eps * s[..., :1]
    factor = (u * (s > floor)[..., None, :]) @ vt
    return torch.where(finite, factor, torch.nan).to(matrices.dtype)


def _working_dtype(x: Tensor) -> torch.dtype:
    if x.dtype == torch.float64:
        return torch.float64
    if x.device.type == "cuda":
        return torch.bfloat16
    large = min(x.shape[-2:]) >= _LARGE
    return torch.bfloat16 if large and has_fast_bfloat16(x.device) else torch.float32
