"""Circulant and tau matrices near a Toeplitz matrix, by their eigenvalues."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor


def diagonal_means(matrix: scipy.sparse.csr_array) -> tuple[Tensor, Tensor]:
    """Return the mean of each diagonal of a square matrix, as first column and first row of a Toeplitz matrix.

    Args:
        matrix: Shape ``[n, n]``.

    Returns:
        ``t_0, t_1, ..`` and ``t_0, t_-1, ..``, shape ``[n]`` each.
    """
    n = matrix.shape[0]
    offset = np.repeat(np.arange(n), np.diff(matrix.indptr)) - matrix.indices + n - 1
    sums = np.zeros(2 * n - 1, matrix.dtype)
    np.add.at(sums, offset, matrix.data)
    means = torch.from_numpy((sums / (n - np.abs(np.arange(-n + 1, n)))).astype(matrix.dtype))
    return means[n - 1 :].clone(), means[:n].flip(0)


def embedded(column: Tensor, row: Tensor) -> Tensor:
    """Return the spectrum of a circulant that holds a Toeplitz matrix as its first block, for `product`.

    Args:
        column: ``t_0, t_1, ..``, shape ``[n]``.
        row: ``t_0, t_-1, ..``, shape ``[n]``, of the same type.

    Returns:
        The Fourier transform of its first column; half of it for real ones.
    """
    n = column.numel()
    kernel = column.new_zeros(_length(n))
    kernel[:n] = column
    if n > 1:
        kernel[-(n - 1) :] = row[1:].flip(0)
    return torch.fft.fft(kernel) if column.is_complex() else torch.fft.rfft(kernel)


def product(spectrum: Tensor, x: Tensor) -> Tensor:
    """Return the product of a Toeplitz matrix with each row of ``x``.

    Args:
        spectrum: What `embedded` returns; its conjugate for the adjoint matrix.
        x: Shape ``[batch, n]``, of the type of the matrix.

    Returns:
        Shape ``[batch, n]``.
    """
    n = x.shape[-1]
    length = _length(n)
    if x.is_complex():
        return torch.fft.ifft(torch.fft.fft(x, length) * spectrum)[..., :n].contiguous()
    return torch.fft.irfft(torch.fft.rfft(x, length) * spectrum, length)[..., :n].contiguous()


def _length(n: int) -> int:
    return 2 ** int(np.ceil(np.log2(max(2 * n - 1, 1))))


def strang(column: Tensor, row: Tensor) -> Tensor:
    """Return the eigenvalues of Strang's circulant, which copies the central diagonals: ``c_k = t_k``, ``c_-k = t_-k``.

    Args:
        column: ``t_0, t_1, ..``, shape ``[n]``.
        row: ``t_0, t_-1, ..``, shape ``[n]``.

    Returns:
        The discrete Fourier transform of its first column, shape ``[n]``.
    """
    n = column.numel()
    c = column.clone()
    k = torch.arange(n, device=column.device)
    wrapped = row[(n - k) % n]
    c = torch.where(2 * k > n, wrapped, c)
    c = torch.where(2 * k == n, (c + wrapped) / 2, c)  # either would do; the mean keeps symmetry
    return torch.fft.fft(c)


def optimal(column: Tensor, row: Tensor) -> Tensor:
    """Return the eigenvalues of T. Chan's circulant, ``c_k = ((n-k) t_k + k t_{k-n}) / n``.

    It is the nearest in the Frobenius norm.

    Args:
        column: ``t_0, t_1, ..``, shape ``[n]``.
        row: ``t_0, t_-1, ..``, shape ``[n]``.

    Returns:
        The discrete Fourier transform of its first column, shape ``[n]``.
    """
    n = column.numel()
    k = torch.arange(n, device=column.device)
    return torch.fft.fft(((n - k) * column + k * row[(n - k) % n]) / n)


def natural_tau(column: Tensor) -> Tensor:
    """Return the eigenvalues of the natural tau matrix: ``lambda_j = t_0 + 2 sum_k t_k cos(pi j k / (n + 1))``.

    Args:
        column: ``t_0, t_1, ..`` of a symmetric Toeplitz matrix, shape ``[n]``, real.

    Returns:
        For ``j = 1 .. n``, shape ``[n]``.
    """
    n = column.numel()
    mirrored = torch.cat([column, column.new_zeros(3), column[1:].flip(0)])[: 2 * n + 2]
    return torch.fft.rfft(mirrored).real[1 : n + 1].contiguous()


def sine_transform(v: Tensor) -> Tensor:
    """Return the discrete sine transform of the first kind, orthonormal, of each row; it is its own inverse.

    ``w_i = sqrt(2 / (n + 1)) sum_j sin(pi i j / (n + 1)) v_j``.

    Args:
        v: Shape ``[batch, n]``, real.

    Returns:
        Shape ``[batch, n]``.
    """
    n = v.shape[-1]
    zero = v.new_zeros(*v.shape[:-1], 1)
    odd = torch.cat([zero, v, zero, -v.flip(-1)], dim=-1)
    return -torch.fft.rfft(odd).imag[..., 1 : n + 1] / (2 * (n + 1)) ** 0.5


def away_from_zero(values: Tensor) -> tuple[Tensor, int]:
    """Return eigenvalues with those at rounding replaced by the smallest of the others, and how many were."""
    sizes = values.abs()
    tiny = sizes <= values.numel() * torch.finfo(sizes.dtype).eps * sizes.max()
    least = sizes[~tiny].min() if bool((~tiny).any()) else torch.ones((), dtype=sizes.dtype, device=values.device)
    return torch.where(tiny, least.to(values.dtype), values), int(tiny.sum())
