"""Inverse roots by matrix products alone, for devices on which eigendecompositions are slow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from precond.math.factors.polar import POLAR_EXPRESS
from precond.math.norms import largest_eigenvalue


def coupled_inverse_sqrt(
    matrices: Tensor,
    steps: int = 10,
    coefficients: Sequence[tuple[float, float, float]] = POLAR_EXPRESS.coefficients,
) -> tuple[Tensor, Tensor]:
    """Return ``A^(-1/2)`` for each matrix of a batch by a coupled iteration with quintic polynomials.

    With ``Y = A / s``, ``Z = I`` and ``s`` slightly above the Frobenius norm, each step takes ``X = Z Y``,
    ``P = a I + b X + c X^2``, ``Y <- Y P``, ``Z <- P Z``; then ``Z / sqrt(s)``. Directions whose eigenvalue is too
    small for the number of steps get a bounded gain instead of a huge one: ten steps reach conditions of 1e6.

    Source: Polar Express (arXiv 2505.16932) for the polynomials; ASGO (arXiv 2503.20762) uses them so.

    Args:
        matrices: Symmetric positive semidefinite matrices, shape ``[batch, n, n]``.
        steps: Number of iterations.
        coefficients: Triples ``(a, b, c)``, one per step; the last are repeated.

    Returns:
        The roots ``[batch, n, n]``, and a mask ``[batch]`` of members without one, because they or the result are not
        finite. Their root, and that of a zero matrix, is the identity.
    """
    y, scale, finite, zero = _scaled(matrices)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    z = identity.expand_as(y).contiguous()
    for step in range(steps):
        a, b, c = coefficients[min(step, len(coefficients) - 1)]
        x = torch.bmm(z, y)
        polynomial = torch.baddbmm(x, x, x, beta=b, alpha=c).add_(identity, alpha=a)
        y, z = _symmetric(torch.bmm(y, polynomial)), _symmetric(torch.bmm(polynomial, z))
    roots = z * scale.rsqrt()
    failed = ~(finite & roots.isfinite().all(-1).all(-1))
    return torch.where((failed | zero)[:, None, None], identity, roots), failed


def coupled_newton(
    matrices: Tensor, p: int, *, ridge: float = 0.0, tolerance: float = 1e-6, steps: int = 100
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``(A + r I)^(-1/p)`` for each matrix of a batch by the coupled Newton iteration.

    ``X = z^(1/p) I``, ``M = z A`` with ``z = (1 + p) / (2 ||A||_F)``; then ``T = ((p + 1) I - M) / p``, ``X <- X T``,
    ``M <- T^p M`` until ``max |M - I| <= tolerance`` or it grows again. Each member stops by itself.

    Sources: Guo and Higham (SIAM J. Matrix Anal. Appl. 28, 2006); Anil et al. (arXiv 2002.09018).

    Args:
        matrices: Symmetric positive semidefinite matrices, shape ``[batch, n, n]``.
        p: Order of the root, a positive integer.
        ridge: ``r`` as a fraction of the largest eigenvalue, which is estimated by power iterations.
        tolerance: When to stop.
        steps: Most iterations.

    Returns:
        The roots ``[batch, n, n]``; a mask ``[batch]`` of members without one, because they are not finite (their root,
        and that of a zero matrix, is the identity); and the residuals ``max |M - I|`` at the end, ``[batch]``, which
        stay near one where eigenvalues are at rounding level.
    """
    if p < 1 or p != int(p):
        raise ValueError(f"the order of the root must be a positive integer, not {p}: use an eigendecomposition")
    a, scale, finite, zero = _scaled(matrices)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    if ridge:
        a = a + (ridge * largest_eigenvalue(a, steps=100))[:, None, None] * identity
    norm = torch.linalg.matrix_norm(a, keepdim=True)
    z = (1.0 + p) / (2.0 * torch.where(zero[:, None, None], 1.0, norm))
    x, m = z.pow(1.0 / p) * identity, z * a
    residual = (m - identity).abs().amax((-2, -1))
    running = finite & ~zero & (residual > tolerance)
    for _ in range(steps):
        if not bool(running.any()):
            break
        t = ((p + 1.0) * identity - m) / p
        new_x, new_m = _symmetric(torch.bmm(x, t)), _symmetric(torch.bmm(torch.linalg.matrix_power(t, p), m))
        new_residual = (new_m - identity).abs().amax((-2, -1))
        accepted = running & (new_residual <= 1.2 * residual)  # false for NaN
        x = torch.where(accepted[:, None, None], new_x, x)
        m = torch.where(accepted[:, None, None], new_m, m)
        residual = torch.where(accepted, new_residual, residual)
        running = accepted & (residual > tolerance)
    roots = x * scale.pow(-1.0 / p)
    failed = ~(finite & roots.isfinite().all(-1).all(-1))
    return torch.where((failed | zero)[:, None, None], identity, roots), failed, residual


def _scaled(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Divide by slightly more than the Frobenius norm; return this, the scales, and who is finite and who zero."""
    finite = matrices.isfinite().all(-1).all(-1)
    work = torch.where(finite[:, None, None], matrices, 0.0)
    largest = work.abs().amax((-2, -1), keepdim=True)
    zero = largest[:, 0, 0] == 0
    largest = torch.where(largest == 0, 1.0, largest)
    norm = 1.01 * torch.linalg.matrix_norm(work / largest, keepdim=True)
    norm = torch.where(norm == 0, 1.0, norm)
    return work / largest / norm, largest * norm, finite, zero


def _symmetric(matrices: Tensor) -> Tensor:
    """Return the symmetric part, which keeps rounding from growing."""
    return (matrices + matrices.mT).mul_(0.5)
