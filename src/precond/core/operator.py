"""Linear maps: what every linear method is allowed to know of a matrix."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from precond.core.errors import IncompatibleError
from precond.core.traits import OperatorTraits

if TYPE_CHECKING:
    import scipy.sparse


class Operator(abc.ABC):
    """A linear map from vectors of length ``n`` to vectors of length ``m``.

    Vectors are rows of a batch: ``matvec`` takes ``[batch, n]`` and returns ``[batch, m]``.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    traits: OperatorTraits

    @abc.abstractmethod
    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x`` for each row of ``x``; shape ``[batch, n] -> [batch, m]``."""

    @property
    def has_adjoint(self) -> bool:
        """Whether ``rmatvec`` will work, so that a driver can refuse before the first product."""
        return bool(self.traits.symmetric) or type(self).rmatvec is not Operator.rmatvec

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A^H y`` for each row of ``y``; shape ``[batch, m] -> [batch, n]``."""
        if self.traits.symmetric:
            return self.matvec(y)
        raise IncompatibleError(
            f"{type(self).__name__} has no adjoint product: give `rmatvec`, or use a method that needs none (gmres)"
        )

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the matrix in CSR form with sorted indices, or ``None`` when only products are known."""
        return None

    def diagonal(self) -> Tensor | None:
        """Return the diagonal, shape ``[n]``, or ``None`` when it is not known."""
        matrix = self.entries()
        return None if matrix is None else torch.as_tensor(matrix.diagonal(), device=self.device)

    def factor(self) -> Tensor | None:
        """Return a dense ``F`` of shape ``[k, n]`` with ``A = F^H F``, or ``None`` when none is at hand."""
        return None

    def dense(self) -> Tensor | None:
        """Return the dense matrix ``[m, n]`` where it is at hand, else ``None``; do not change it."""
        return None

    def frobenius_norm(self) -> float | None:
        """Return the Frobenius norm, or ``None`` when only products are known."""
        matrix = self.entries()
        if matrix is None:
            return None
        largest = float(np.abs(matrix.data).max(initial=0))
        return largest * float(np.linalg.norm(matrix.data / largest)) if largest > 0 else 0.0  # squares may overflow

    def double(self) -> Operator:
        """Return the same map with products in double precision, where it can be had; else the map itself."""
        return self
