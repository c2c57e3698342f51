"""Random maps to fewer dimensions that keep the lengths of all vectors of a subspace, roughly."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import scipy.sparse


class Embedding(abc.ABC):
    """One draw of a sketch: a linear map ``S`` from ``rows`` numbers to ``size`` numbers.

    Attributes:
        shape: ``(size, rows)``.
    """

    shape: tuple[int, int]

    @abc.abstractmethod
    def apply(self, matrix: Tensor) -> Tensor:
        """Return ``S`` times each column; shape ``[..., rows, k] -> [..., size, k]``."""

    @abc.abstractmethod
    def adjoint(self, matrix: Tensor) -> Tensor:
        """Return ``S^T`` times each column; shape ``[..., size, k] -> [..., rows, k]``."""

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return ``S`` in CSR form where most of its entries are zero, else ``None``."""
        return None


class Sketch(abc.ABC):
    """A distribution of real random matrices ``S`` with ``E S^T S = I``, as a frozen dataclass of hyperparameters."""

    @abc.abstractmethod
    def draw(
        self,
        rows: int,
        size: int,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Embedding:
        """Draw a map.

        Args:
            rows: Length of the vectors it takes.
            size: Length of the vectors it returns.
            seed: Equal seeds give equal maps.
            dtype: Type of the vectors; of complex ones, the real part of the type is drawn.
            device: Where the vectors live.

        Returns:
            The map.
        """
