"""Products with a constant sparse matrix, differentiable any number of times."""

from __future__ import annotations

import warnings
from typing import Any

import scipy.sparse
import torch
from torch import Tensor

_DENSE_ABOVE = 0.2


def as_features(matrix: scipy.sparse.csr_array, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a matrix and its transpose on a device: sparse CSR, or dense when a fifth of the entries is stored."""
    if matrix.nnz > _DENSE_ABOVE * matrix.shape[0] * matrix.shape[1]:
        dense = torch.from_numpy(matrix.toarray()).to(device)
        return dense, dense.T
    return _csr(matrix).to(device), _csr(scipy.sparse.csr_array(matrix.T)).to(device)


def product(matrix: Tensor, transpose: Tensor, x: Tensor) -> Tensor:
    """Return ``A x`` for ``x`` of shape ``[n]``; autograd never sees the matrix, so all derivatives are products."""
    if matrix.layout == torch.strided:
        return matrix @ x
    result: Tensor = _Product.apply(x, matrix, transpose)
    return result


class _Product(torch.autograd.Function):
    """``x -> A x``; its derivative is ``A^T``, a product of the same kind."""

    @staticmethod
    def forward(x: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        return matrix @ x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        _, ctx.matrix, ctx.transpose = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return product(ctx.transpose, ctx.matrix, gradients[0].contiguous()), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return product(ctx.matrix, ctx.transpose, tangents[0].contiguous())

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, matrix: Tensor, transpose: Tensor) -> Any:
        columns = x.movedim(in_dims[0], 1) if in_dims[0] is not None else x[:, None]
        return _Product.apply(columns, matrix, transpose), 1


def _csr(matrix: scipy.sparse.csr_array) -> Tensor:
    matrix = scipy.sparse.csr_array(matrix).sorted_indices()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype("int64")),
            torch.from_numpy(matrix.indices.astype("int64")),
            torch.from_numpy(matrix.data),
            size=matrix.shape,
        )
