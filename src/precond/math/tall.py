"""Products with a tall dense matrix that read it once: the normal equations, and sparse sketches.

A tall matrix does not fit in a cache, so its reading is what products cost. On a CPU, in real types, these run in numba
kernels, one part of the rows on each of torch's threads; elsewhere they are torch's own products.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

_large = 1 << 18  # numbers; smaller matrices stay in a cache, and need no kernel
_block = 4096  # rows


def normal_products(matrix: Tensor, x: Tensor, b: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return ``A^H y`` and ``||y||`` with ``y = b - A x``, or ``y = A x`` without ``b``.

    Args:
        matrix: ``A``, shape ``[m, n]``.
        x: Vectors, shape ``[batch, n]``.
        b: Right-hand sides, shape ``[batch, m]``.

    Returns:
        The products, shape ``[batch, n]``, and the norms, ``[batch]``.
    """
    if len(x) == 1 and _for_kernels(matrix) and matrix.is_contiguous() and x.dtype == matrix.dtype:
        product, squares = _normal_kernel(matrix, x[0], None if b is None else b[0])
        return product.unsqueeze(0), torch.full_like(x[:, 0], math.sqrt(squares))
    if matrix.numel() < _large or matrix.device.type != "cpu":
        y = x @ matrix.mT if b is None else b - x @ matrix.mT
        return y @ matrix.conj(), torch.linalg.vector_norm(y, dim=-1)
    out, norms = torch.zeros_like(x), []
    for first in range(0, len(matrix), _block):
        part = matrix[first : first + _block]
        y = x @ part.mT if b is None else b[:, first : first + _block] - x @ part.mT
        out += y @ part.conj()
        norms.append(torch.linalg.vector_norm(y, dim=-1))
    return out, torch.linalg.vector_norm(torch.stack(norms), dim=0)


def column_norms(matrix: Tensor) -> Tensor:
    """Return the norm of each column, real; shape ``[m, n] -> [n]``."""
    if _for_kernels(matrix) and matrix.is_contiguous():
        from precond.math import tall_kernels as kernels

        squares = torch.zeros(matrix.shape[1], dtype=torch.float64)
        kernels.column_squares(matrix.numpy(), squares.numpy())
        if bool(torch.isfinite(squares).all()):
            return squares.sqrt().to(matrix.dtype)
    return torch.linalg.vector_norm(matrix, dim=0)


def scatter_rows(matrix: Tensor, places: Tensor, signs: Tensor, size: int) -> Tensor:
    """Return the sparse sketch whose row ``r`` is the sum of ``signs[i, j] * matrix[i]`` over all ``places[i, j] = r``.

    Args:
        matrix: Shape ``[..., m, n]``.
        places: Shape ``[m, k]``, ``int32``.
        signs: Shape ``[m, k]``, in the real type of the matrix.
        size: Rows of the result.

    Returns:
        Shape ``[..., size, n]``.
    """
    if matrix.ndim == 2 and _for_kernels(matrix):
        return _scatter_kernel(matrix, places, signs, size)
    out = matrix.new_zeros(*matrix.shape[:-2], size, matrix.shape[-1])
    for first in range(0, matrix.shape[-2], _block):
        part = matrix[..., first : first + _block, :]
        for where, sign in zip(places[first : first + _block].mT, signs[first : first + _block].mT, strict=True):
            out.index_add_(-2, where.long(), part * sign.unsqueeze(-1))
    return out


def _for_kernels(matrix: Tensor) -> bool:
    real = matrix.dtype in (torch.float32, torch.float64)
    return real and matrix.device.type == "cpu" and matrix.numel() >= _large


def _normal_kernel(matrix: Tensor, x: Tensor, b: Tensor | None) -> tuple[Tensor, float]:
    from precond.math import tall_kernels as kernels

    a, vector, out = matrix.numpy(), x.contiguous().numpy(), torch.zeros_like(x)
    rhs = vector if b is None else b.contiguous().numpy()

    def part(first: int, last: int) -> tuple[Tensor, float]:
        product = torch.zeros_like(x)
        some = rhs if b is None else rhs[first:last]
        return product, kernels.normal(a[first:last], vector, some, b is not None, product.numpy())

    squares = 0.0
    for product, square in _in_parts(part, len(a)):
        out += product
        squares += square
    return out, squares


def _scatter_kernel(matrix: Tensor, places: Tensor, signs: Tensor, size: int) -> Tensor:
    from precond.math import tall_kernels as kernels

    where, sign = places.numpy(), signs.numpy()

    def part(first: int, last: int) -> Tensor:
        out = matrix.new_zeros(size, matrix.shape[1])
        for begin in range(first, last, last - first if matrix.is_contiguous() else _block):
            end = last if matrix.is_contiguous() else min(last, begin + _block)
            rows = matrix[begin:end].contiguous().numpy()
            kernels.scatter(rows, where[begin:end], sign[begin:end], out.numpy())
        return out

    first, *others = _in_parts(part, len(matrix))
    for other in others:
        first += other
    return first


def _in_parts(work: Callable[[int, int], Any], rows: int) -> list[Any]:
    """Return ``work(first, last)`` for one part of the rows on each of torch's threads."""
    threads = max(1, min(torch.get_num_threads(), rows))
    bounds = [rows * t // threads for t in range(threads + 1)]
    if threads == 1:
        return [work(0, rows)]
    return list(_pool(threads).map(work, bounds[:-1], bounds[1:]))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="precond-tall")
