"""The matrix of a linear model: products with it, and with some of its columns."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import BadInputError
from precond.losses.features import Features


class Design(abc.ABC):
    """A matrix ``A`` of shape ``[m, n]`` whose columns can be had one by one.

    Attributes:
        shape: ``(m, n)``.
        dtype: float32 or float64.
        device: Where it lies.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    @property
    @abc.abstractmethod
    def features(self) -> Features:
        """The matrix as regressions keep it."""

    @abc.abstractmethod
    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x`` for each row of ``x`` ``[..., n]``."""

    @abc.abstractmethod
    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A' y`` for each row of ``y`` ``[..., m]``."""

    @abc.abstractmethod
    def partial(self, block: Tensor, y: Tensor) -> Tensor:
        """Return ``A_b' y``, ``[k]``, for some columns."""

    @abc.abstractmethod
    def combine(self, block: Tensor, d: Tensor) -> Tensor:
        """Return ``A_b d``, ``[m]``, for some columns."""

    @abc.abstractmethod
    def gram(self, block: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return ``A_b' diag(weights) A_b``, ``[k, k]``."""

    @abc.abstractmethod
    def squares(self) -> Tensor:
        """Return the squared norms of the columns, ``[n]``."""

    @abc.abstractmethod
    def overlaps(self) -> Tensor:
        """Return ``|A|' |A| 1``, ``[n]``: bounds on the sums of ``|A' A|`` over rows."""

    @abc.abstractmethod
    def diagonal(self) -> Tensor:
        """Return the diagonal of a square matrix, ``[n]``."""

    @abc.abstractmethod
    def block(self, index: Tensor) -> Tensor:
        """Return the entries of some rows and the same columns of a square matrix, dense, ``[k, k]``."""

    @abc.abstractmethod
    def row_sums(self) -> Tensor:
        """Return the sum of sizes of each row, ``[m]``."""

    @abc.abstractmethod
    def round(self, order: Any, common: tuple[Any, ...], columns: list[Any]) -> float:
        """Run a compiled round of coordinate descent; see `precond.math.descent_kernels`."""

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the matrix in CSR form if it is sparse."""
        return None

    def largest_eigenvalue(self) -> float:
        """Return the largest eigenvalue of ``A' A``, by the Gram matrix or by Lanczos with 1 % on top."""
        m, n = self.shape
        if min(m, n) == 0:
            return 0.0
        if n <= 256:
            return float(torch.linalg.eigvalsh(self.gram(torch.arange(n, device=self.device)).double())[-1])
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(n, generator=generator, dtype=torch.float64).to(self.device, self.dtype)
        basis, alphas, betas = [v / v.norm()], [], []
        for _ in range(min(n, 40)):
            w = self.rmatvec(self.matvec(basis[-1]))
            alphas.append(w.dot(basis[-1]))
            stacked = torch.stack(basis)
            for _ in range(2):
                w = w - (stacked @ w) @ stacked
            beta = w.norm()
            if not beta > 1e-12 * alphas[0].abs():
                break
            betas.append(beta)
            basis.append(w / beta)
        size = len(alphas)
        t = torch.diag(torch.stack(alphas)).double()
        if size > 1:
            off = torch.stack(betas[: size - 1]).double()
            t += torch.diag(off, 1) + torch.diag(off, -1)
        return 1.01 * float(torch.linalg.eigvalsh(t)[-1])


class DenseDesign(Design):
    """A dense matrix, not copied; its columns are laid out one after another once blocks of them are asked for.

    Args:
        matrix: Shape ``[m, n]``.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.shape = (matrix.shape[0], matrix.shape[1])
        self.dtype, self.device = matrix.dtype, matrix.device
        self._matrix = matrix
        self._features: Features | None = None
        self._columns: Tensor | None = matrix.mT if matrix.mT.is_contiguous() else None

    def _rows(self) -> Tensor:
        """Return the transpose, its rows contiguous."""
        if self._columns is None:
            self._columns = self._matrix.mT.contiguous()
        return self._columns

    @property
    def features(self) -> Features:
        """The matrix, and a sparse copy if it is mostly zeros."""
        if self._features is None:
            self._features = Features(self._matrix)
            self._features.prepare()
        return self._features

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x``."""
        return self.features.forward(x) if x.ndim == 1 else x @ self._matrix.mT

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A' y``."""
        return self.features.adjoint(y) if y.ndim == 1 else y @ self._matrix

    def partial(self, block: Tensor, y: Tensor) -> Tensor:
        """Return ``A_b' y``."""
        return self._rows()[block] @ y

    def combine(self, block: Tensor, d: Tensor) -> Tensor:
        """Return ``A_b d``."""
        return d @ self._rows()[block]

    def gram(self, block: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return ``A_b' diag(weights) A_b``."""
        part = self._matrix[:, block].mT if self._columns is None else self._columns[block]
        return (part if weights is None else part * weights) @ part.mT

    def squares(self) -> Tensor:
        """Return the squared norms of the columns."""
        return self._matrix.square().sum(0)

    def overlaps(self) -> Tensor:
        """Return ``|A|' |A| 1``."""
        sizes = self._matrix.abs()
        return sizes.sum(1) @ sizes

    def diagonal(self) -> Tensor:
        """Return the diagonal."""
        return self._matrix.diagonal()

    def block(self, index: Tensor) -> Tensor:
        """Return the entries of some rows and columns."""
        return self._matrix[index][:, index]

    def row_sums(self) -> Tensor:
        """Return the sums of sizes."""
        return self._matrix.abs().sum(1)

    def round(self, order: Any, common: tuple[Any, ...], columns: list[Any]) -> float:
        """Run a round on the columns."""
        from precond.math import descent_kernels as kernels

        rows = self._rows().double().contiguous().numpy()
        return float(kernels.dense_round(order, rows, *common, *columns))


class SparseDesign(Design):
    """A sparse matrix on the CPU.

    Args:
        matrix: Shape ``[m, n]``, float32 or float64.
    """

    def __init__(self, matrix: Any) -> None:
        self._matrix = scipy.sparse.csr_array(matrix)
        self._matrix.sum_duplicates()
        self._transpose = scipy.sparse.csr_array(self._matrix.T)
        self._transpose.sort_indices()
        self._double: Any = None
        self._features: Features | None = None
        self._transpose.indptr = self._transpose.indptr.astype(np.int64)
        self._transpose.indices = self._transpose.indices.astype(np.int64)
        self.shape = (int(matrix.shape[0]), int(matrix.shape[1]))
        self.dtype = torch.from_numpy(self._matrix.data[:0]).dtype
        self.device = torch.device("cpu")

    @property
    def features(self) -> Features:
        """The matrix as a tensor of torch."""
        if self._features is None:
            self._features = Features.sparse(self._matrix, self._transpose)
        return self._features

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x``."""
        return torch.from_numpy(np.ascontiguousarray((self._matrix @ x.detach().numpy().T).T))

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A' y``."""
        return torch.from_numpy(np.ascontiguousarray((self._transpose @ y.detach().numpy().T).T))

    def partial(self, block: Tensor, y: Tensor) -> Tensor:
        """Return ``A_b' y``."""
        from precond.math import column_kernels as kernels

        out = torch.empty(len(block), dtype=torch.float64)
        kernels.partial(*self._parts(), block.numpy(), y.double().contiguous().numpy(), out.numpy())
        return out.to(self.dtype)

    def combine(self, block: Tensor, d: Tensor) -> Tensor:
        """Return ``A_b d``."""
        from precond.math import column_kernels as kernels

        out = torch.zeros(self.shape[0], dtype=torch.float64)
        kernels.combine(*self._parts(), block.numpy(), d.double().contiguous().numpy(), out.numpy())
        return out.to(self.dtype)

    def gram(self, block: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return ``A_b' diag(weights) A_b``."""
        part = self._transpose[block.numpy()]
        scaled = part if weights is None else part.multiply(weights.numpy()[None]).tocsr()
        return torch.from_numpy(np.ascontiguousarray((scaled @ part.T).toarray()))

    def squares(self) -> Tensor:
        """Return the squared norms of the columns."""
        return torch.from_numpy(np.asarray(self._matrix.multiply(self._matrix).sum(axis=0)).reshape(-1))

    def overlaps(self) -> Tensor:
        """Return ``|A|' |A| 1``."""
        sizes = abs(self._matrix)
        return torch.from_numpy(np.asarray(sizes.T @ np.asarray(sizes.sum(axis=1)).reshape(-1)))

    def diagonal(self) -> Tensor:
        """Return the diagonal."""
        return torch.from_numpy(np.array(self._matrix.diagonal()))

    def block(self, index: Tensor) -> Tensor:
        """Return the entries of some rows and columns."""
        part = self._matrix[index.numpy()][:, index.numpy()].toarray()
        return torch.from_numpy(np.ascontiguousarray(part))

    def row_sums(self) -> Tensor:
        """Return the sums of sizes."""
        return torch.from_numpy(np.asarray(abs(self._matrix).sum(axis=1)).reshape(-1))

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the matrix."""
        return self._matrix

    def round(self, order: Any, common: tuple[Any, ...], columns: list[Any]) -> float:
        """Run a round on the columns."""
        from precond.math import descent_kernels as kernels

        return float(kernels.sparse_round(order, *self._parts(), *common, *columns))

    def _parts(self) -> tuple[Any, Any, Any]:
        if self._double is None:
            self._double = self._transpose.data.astype(np.float64, copy=False)
        return self._transpose.indptr, self._transpose.indices, self._double


def read_design(matrix: Any, what: str = "A") -> Design:
    """Return the matrix of a linear model from a tensor, an array, or a sparse matrix of SciPy or torch.

    Args:
        matrix: Shape ``[m, n]``; integers become float64.
        what: Its name in messages.

    Returns:
        The matrix.

    Raises:
        BadInputError: It has another number of dimensions, or entries that are complex or not finite.
    """
    if isinstance(matrix, Tensor) and matrix.layout != torch.strided:
        coo = matrix.detach().cpu().to_sparse_coo().coalesce()
        matrix = scipy.sparse.csr_array((coo.values().numpy(), coo.indices().numpy()), shape=tuple(coo.shape))
    if scipy.sparse.issparse(matrix):
        kept = matrix if matrix.dtype in (np.float32, np.float64) else matrix.astype(np.float64)
        if not np.isfinite(kept.tocsr().data).all():
            raise BadInputError(f"{what} has an entry that is not finite: remove or replace it")
        return SparseDesign(kept)
    try:
        tensor = matrix.detach() if isinstance(matrix, Tensor) else torch.as_tensor(np.asarray(matrix))
    except (TypeError, ValueError) as error:
        raise BadInputError(f"cannot read {what} from {type(matrix).__name__}: give a matrix of numbers") from error
    if tensor.is_complex():
        raise BadInputError(f"{what} is complex: losses are of real matrices")
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.double()
    if tensor.ndim != 2:
        raise BadInputError(f"{what} has shape {tuple(tensor.shape)}: give a matrix [m, n]")
    if not bool(torch.isfinite(tensor.sum())) and not bool(torch.isfinite(tensor).all()):  # a sum is one pass
        raise BadInputError(f"{what} has an entry that is not finite: remove or replace it")
    return DenseDesign(tensor)


class Times(torch.autograd.Function):
    """``x -> A x`` for a constant design; its derivative is a product of the same kind, so that any order is there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, design: Design, transposed: bool) -> Tensor:
        """Return ``A x``, or ``A' x``."""
        ctx.design, ctx.transposed = design, transposed
        return (design.rmatvec if transposed else design.matvec)(x.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the product with the transpose."""
        return Times.apply(gradients[0], ctx.design, not ctx.transposed), None, None
