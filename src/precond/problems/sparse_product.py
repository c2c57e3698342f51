"""Products with a constant sparse matrix, differentiable any number of times."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import scipy.sparse
import torch
from torch import Tensor

_DENSE_ABOVE = 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class ConstantMatrix:
    """A constant matrix with its transpose; ``A @ x`` is differentiable in ``x``, in reverse and forward mode.

    Autograd never sees the matrix (it cannot lift sparse tensors), so that derivatives of any order are products.

    Attributes:
        matrix: The matrix ``A``, shape ``[m, n]``: sparse CSR or dense.
        transpose: Its transpose, in the same layout.
    """

    matrix: Tensor
    transpose: Tensor

    @property
    def T(self) -> ConstantMatrix:
        """The transposed map."""
        return ConstantMatrix(self.transpose, self.matrix)

    def __matmul__(self, x: Tensor) -> Tensor:
        """Return ``A x`` for ``x`` of shape ``[n]`` or ``[n, k]``."""
        result: Tensor = _Product.apply(x, self)
        return result


def constant_matrix(matrix: scipy.sparse.csr_array, device: torch.device) -> ConstantMatrix:
    """Return a matrix on a device: sparse CSR, or dense when a fifth of the entries or more is stored."""
    if matrix.nnz >= _DENSE_ABOVE * matrix.shape[0] * matrix.shape[1]:
        dense = torch.from_numpy(matrix.toarray()).to(device)
        return ConstantMatrix(dense, dense.T)
    return ConstantMatrix(_csr(matrix).to(device), _csr(scipy.sparse.csr_array(matrix.T)).to(device))


class _Product(torch.autograd.Function):
    """``x -> A x``; its derivative is ``A^T``, a product of the same kind."""

    @staticmethod
    def forward(x: Tensor, a: ConstantMatrix) -> Tensor:
        return a.matrix @ x.contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ConstantMatrix], output: Tensor) -> None:
        ctx.a = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.a.T @ gradients[0], None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return _Product.apply(tangents[0], ctx.a)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], x: Tensor, a: ConstantMatrix) -> tuple[Tensor, int]:
        columns = x.movedim(in_dims[0], -1)
        products = a @ columns.flatten(1)
        return products.unflatten(1, columns.shape[1:]), columns.ndim - 1


def _csr(matrix: scipy.sparse.csr_array) -> Tensor:
    matrix = scipy.sparse.csr_array(matrix).sorted_indices()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype("int64")),
            torch.from_numpy(matrix.indices.astype("int64")),
            torch.from_numpy(matrix.data),
            size=matrix.shape,
            check_invariants=True,
        )
