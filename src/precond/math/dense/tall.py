"""Products with a dense matrix that read it once: the way there and back, the normal equations, and sparse sketches.

A tall matrix does not fit in a cache, so its reading is what products cost. On a CPU, in real types, these run in numba
kernels, one part of the rows on each of torch's threads; elsewhere they are torch's own products.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.math.machine.threads import share

Array = np.ndarray[Any, Any]
_large = 1 << 18  # numbers; smaller matrices stay in a cache, and need no kernel
_block = 4096  # rows
_shares, _least = 8, 512  # parts of a matrix that two threads share, and rows of one


def passes_once(matrix: Array) -> bool:
    """Whether `there_and_back` takes a matrix: real, in single or double precision, its rows or columns contiguous."""
    return matrix.dtype.char in "fd" and (matrix.flags.c_contiguous or matrix.flags.f_contiguous)


def there_and_back(matrix: Array, x: Array, scale: float, u: Array) -> Array:
    """Replace ``u`` by ``scale A x - u`` and return ``A^T u``, in one pass over a dense matrix.

    Measured on one thread of a CPU, 100 x 20 to 20 000 x 50: 1.0 to 3 times as fast as two products of BLAS.

    Args:
        matrix: ``A``, shape ``[m, n]``; see `passes_once`.
        x: A vector ``[n]``, in at least the precision of the matrix; its type is that of the arithmetic.
        scale: A number.
        u: A vector ``[m]``, in at least the precision of ``x``; written.

    Returns:
        The product with the transpose, shape ``[n]``.
    """
    from precond.math.dense import tall_kernels as kernels

    by_rows = matrix.flags.c_contiguous
    go, a = (kernels.parts_by_rows, matrix) if by_rows else (kernels.parts_by_columns, matrix.T)
    parts = max(1, min(_shares, len(matrix) // _least)) if matrix.size >= _large else 1
    products = np.zeros((parts, x.size), u.dtype)
    share(functools.partial(go, a, x, scale, u, products), parts)
    return products[0] if parts == 1 else products.sum(axis=0)


def adjoint_times(matrix: Array, u: Array) -> Array:
    """Return ``A^T u`` for a matrix that `there_and_back` takes; one in less precision than ``u`` is not converted."""
    if matrix.dtype == u.dtype:
        product: Array = matrix.T.dot(u)
        return product
    return there_and_back(matrix, np.zeros(matrix.shape[1], u.dtype), 0.0, -u)


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
        from precond.math.dense import tall_kernels as kernels

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


def _passing(matrix: Array) -> Callable[[Array, float, Array, Array, int, int], None]:
    """Return what goes there and back for some rows, and adds the product with their transpose to what is given."""
    from precond.math.dense import tall_kernels as kernels

    by_rows = matrix.flags.c_contiguous
    return functools.partial(
        kernels.rows_there_and_back if by_rows else kernels.columns_there_and_back, matrix if by_rows else matrix.T
    )


def _normal_kernel(matrix: Tensor, x: Tensor, b: Tensor | None) -> tuple[Tensor, float]:
    a, vector = matrix.numpy(), x.contiguous().numpy()
    rest, go = np.zeros(len(a), a.dtype) if b is None else b.numpy().copy(), _passing(a)

    def part(first: int, last: int) -> tuple[Array, float]:
        product = np.zeros_like(vector)
        go(vector, 1.0, rest, product, first, last)
        return product, float(rest[first:last] @ rest[first:last])

    out, squares = np.zeros_like(vector), 0.0
    for product, square in _in_parts(part, len(a)):
        out += product
        squares += square
    return torch.from_numpy(out if b is None else -out), squares


def _scatter_kernel(matrix: Tensor, places: Tensor, signs: Tensor, size: int) -> Tensor:
    from precond.math.dense import tall_kernels as kernels

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
