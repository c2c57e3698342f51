"""Linear maps: what every linear method is allowed to know of a matrix."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from precond.core.errors import IncompatibleError
from precond.core.traits import OperatorTraits

if TYPE_CHECKING:
    import scipy.sparse

    from precond.core.sketch import Embedding

_columns = 64  # unit vectors that are multiplied at once
_least, _most = 1e-140, 1e140  # norms between which no square of a number that matters is lost


@dataclasses.dataclass(frozen=True)
class Saddle:
    """The blocks of ``[[hessian + shift I, jacobian'], [jacobian, -delta I]]``.

    Attributes:
        hessian: Symmetric, ``[n, n]``.
        jacobian: ``[m, n]``.
        shift: Multiple of the identity in the first block.
        delta: Multiple of the identity that is taken from the second one.
    """

    hessian: Operator
    jacobian: Operator
    shift: float = 0.0
    delta: float = 0.0


class Operator(abc.ABC):
    """A linear map from vectors of length ``n`` to vectors of length ``m``.

    Vectors are rows of a batch: ``matvec`` takes ``[batch, n]`` and returns ``[batch, m]``.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    traits: OperatorTraits
    side_by_side: bool = False
    """Whether products are cheaper where vectors lie side by side: the batch ``[count, n]`` as a transpose."""

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

    def price(self, count: int) -> int:
        """Return how many products one by one take as long as ``count`` at once, roughly."""
        return count

    def normal(self, x: Tensor, b: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return both products of the normal equations, in one pass over the matrix where it can be had.

        Args:
            x: Vectors, shape ``[batch, n]``.
            b: Right-hand sides, shape ``[batch, m]``.

        Returns:
            ``A^H (b - A x)`` and ``||b - A x||``, shapes ``[batch, n]`` and ``[batch]``; without ``b``, ``A^H A x`` and
            ``||A x||``.
        """
        y = self.matvec(x) if b is None else b - self.matvec(x)
        return self.rmatvec(y), torch.linalg.vector_norm(y, dim=-1)

    def dense(self) -> Tensor | None:
        """Return the matrix as a dense tensor ``[m, n]`` if it is kept as one: do not write to it."""
        return None

    def assembled(self, *, coarse: bool = False) -> Tensor | None:
        """Return the dense matrix ``[m, n]`` where it costs less than products with all unit vectors.

        Args:
            coarse: Entries to single precision will do, as for a preconditioner.

        Returns:
            The matrix, not to be written to, or ``None``.
        """
        return self.dense()

    def floor(self) -> float | None:
        """Return a number that no eigenvalue of a symmetric map is below, ``None`` where none is known for little."""
        return None

    def approximated(self, size: int, seed: int) -> Tensor | None:
        """Return a random dense matrix near this one, ``[n, n]``, from a sketch of the data it is made of.

        Args:
            size: Rows of the sketch.
            seed: Equal seeds give equal matrices.

        Returns:
            The matrix, or ``None`` where that is not known to cost less than assembling.
        """
        return None

    def sketched(self, embedding: Embedding) -> Tensor:
        """Return ``S A``, shape ``[size, n]``; ``n`` products when only products are known."""
        n = self.shape[1]
        parts = []
        for first in range(0, n, _columns):
            units = torch.zeros(min(_columns, n - first), n, dtype=self.dtype, device=self.device)
            units[:, first:].fill_diagonal_(1)
            parts.append(embedding.apply(self.matvec(units).mT))
        return torch.cat(parts, dim=1)

    def root(self) -> Operator | None:
        """Return an operator ``F`` with ``A = F^H F``, or ``None`` when none is at hand."""
        return None

    def saddle(self) -> Saddle | None:
        """Return the blocks of a saddle-point matrix, or ``None`` when it is none, or they are not known."""
        return None

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the matrix in CSR form with sorted indices, or ``None`` when only products are known."""
        return None

    @property
    def has_entries(self) -> bool:
        """Whether `entries` returns something; asked where making them would be a waste."""
        return self.entries() is not None

    def compiled(self) -> tuple[Any, ...] | None:
        """Return row pointers, columns (both unsigned) and values for loops on the CPU; ``None`` without entries there.

        Columns of a row need not be sorted; nobody writes to them.
        """
        return None

    def diagonal(self) -> Tensor | None:
        """Return the diagonal, shape ``[n]``, or ``None`` when it is not known."""
        matrix = self.entries()
        return None if matrix is None else torch.as_tensor(matrix.diagonal(), device=self.device)

    def factor(self) -> Tensor | None:
        """Return a dense ``F`` of shape ``[k, n]`` with ``A = F^H F``, or ``None`` when none is at hand."""
        return None

    def column_norms(self) -> Tensor | None:
        """Return the norm of each column, shape ``[n]``, real, or ``None`` when only products are known."""
        matrix = self.entries()
        if matrix is None:
            return None
        squares = np.bincount(matrix.indices, np.abs(matrix.data) ** 2, minlength=self.shape[1])
        return torch.from_numpy(np.sqrt(squares)).to(self.device)

    def frobenius_norm(self) -> float | None:
        """Return the Frobenius norm, or ``None`` when only products are known."""
        matrix = self.entries()
        if matrix is None:
            return None
        data = matrix.data.astype(np.result_type(matrix.data, np.float64), copy=False)
        size = math.sqrt(np.vdot(data, data).real)
        if _least < size < _most:
            return size
        largest = float(np.abs(matrix.data).max(initial=0))
        return largest * float(np.linalg.norm(matrix.data / largest)) if largest > 0 else 0.0

    def double(self) -> Operator:
        """Return the same map with products in double precision, where it can be had; else the map itself."""
        return self
