"""A dense matrix as a linear model sees it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from precond.losses.design import Design
from precond.losses.features import Features


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

    def dense(self) -> Tensor:
        """Return the matrix."""
        return self._matrix

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
