"""Products with a constant sparse matrix that autograd knows the derivatives of, to any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor


def sparse_times(matrix: scipy.sparse.csr_array, x: Tensor) -> Tensor:
    """Return ``A x`` in the dtype of ``x``; no gradient flows to ``A``.

    Args:
        matrix: ``A``, shape ``[m, n]``.
        x: ``[n]``.

    Returns:
        ``[m]``.
    """
    result: Tensor = _Product.apply(x, matrix)
    return result


def _multiply(matrix: scipy.sparse.csr_array, x: Tensor) -> Tensor:
    product = matrix @ x.detach().cpu().numpy()
    return torch.from_numpy(np.ascontiguousarray(product)).to(x)


class _Product(torch.autograd.Function):
    """``x -> A x``; its derivative is ``A'``, a product of the same kind."""

    @staticmethod
    def forward(x: Tensor, matrix: scipy.sparse.csr_array) -> Tensor:
        return _multiply(matrix, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, scipy.sparse.csr_array], output: Tensor) -> None:
        ctx.matrix = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Product.apply(gradients[0], ctx.matrix.T), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        tangent: Tensor = _Product.apply(tangents[0], ctx.matrix)
        return tangent

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], x: Tensor, matrix: scipy.sparse.csr_array) -> tuple[Tensor, int]:
        rows = x.movedim(in_dims[0], 0)
        products = [_Product.apply(row, matrix) for row in rows]
        return torch.stack(products), 0
