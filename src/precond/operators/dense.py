"""A dense matrix as an operator."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Embedding, Operator, OperatorTraits
from precond.math.dense.matrix import examine, symmetric_product
from precond.math.dense.tall import column_norms, normal_products
from precond.operators.checks import DECLARED, check_finite, check_shape, refuse_symmetric, working_dtype

_worthwhile = 64  # order from which a product that reads one half of the matrix is faster


class DenseOperator(Operator):
    """The linear map of a dense matrix.

    Args:
        matrix: Shape ``[m, n]``; integers are converted to float64. It is not copied: do not change it while in use.
        symmetric: Whether it equals its conjugate transpose; found by comparing the entries when not given.
        definite: Whether it is positive definite; a diagonal entry that is not positive proves that it is not.
    """

    def __init__(self, matrix: Tensor, *, symmetric: bool | None = None, definite: bool | None = None) -> None:
        check_shape(tuple(matrix.shape))
        matrix = matrix.detach().resolve_conj()
        matrix = matrix.to(working_dtype(matrix.dtype))
        self._norm = float(torch.linalg.vector_norm(matrix))
        if not math.isfinite(self._norm):  # an entry that is not finite, or squares that overflow
            check_finite(matrix.cpu().numpy(), lambda index: divmod(index, matrix.shape[1]))
        limits = torch.finfo(matrix.dtype)
        if not limits.tiny**0.5 / limits.eps < self._norm < math.inf:  # squares that vanish, or overflow
            largest = float(matrix.abs().max())
            self._norm = largest * float(torch.linalg.vector_norm(matrix / largest)) if largest else 0.0
        self.matrix = matrix
        self.shape = (matrix.shape[0], matrix.shape[1])
        self.dtype = matrix.dtype
        self.device = matrix.device
        found = self._asymmetry()
        if symmetric and found > DECLARED:
            refuse_symmetric(found)
        but_for_rounding = found <= 4 * torch.finfo(self.dtype).eps
        if symmetric is None:
            symmetric = but_for_rounding
        if definite is None and symmetric and not bool((matrix.diagonal().real > 0).all()):
            definite = False
        self.traits = OperatorTraits(symmetric, definite)
        one_half = symmetric and but_for_rounding and self.device.type == "cpu" and not self.dtype.is_complex
        self._half = self.matrix.contiguous().numpy() if one_half and self.shape[0] >= _worthwhile else None
        self._entries: scipy.sparse.csr_array | None = None
        self._double: DenseOperator | None = None

    def _asymmetry(self) -> float:
        """Return the asymmetry as `precond.math.dense.matrix.Facts` has it; infinite when not square."""
        if self.shape[0] != self.shape[1]:
            return float("inf")
        if self.device.type == "cpu":
            return examine(self.matrix.contiguous().numpy()).asymmetry
        gap = (self.matrix - self.matrix.mH).abs()
        if not bool(gap.any()):
            return 0.0
        roots = self.matrix.diagonal().abs().sqrt()
        size = torch.maximum(torch.minimum(self.matrix.abs(), self.matrix.mT.abs()), roots[:, None] * roots)
        return float(torch.where(gap == 0, 0, gap / size).max())

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x`` for each row of ``x``."""
        if self._half is not None and len(x) == 1:
            return torch.from_numpy(symmetric_product(self._half, x[0].numpy(force=True))).unsqueeze(0)
        return x @ self.matrix.mT

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A^H y`` for each row of ``y``."""
        return y @ self.matrix.conj()

    def normal(self, x: Tensor, b: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``A^H (b - A x)`` and ``||b - A x||``, reading the matrix once; see `Operator.normal`."""
        return normal_products(self.matrix, x, b)

    def dense(self) -> Tensor:
        """Return the matrix itself: do not write to it."""
        return self.matrix

    def sketched(self, embedding: Embedding) -> Tensor:
        """Return ``S A``, shape ``[size, n]``."""
        return embedding.apply(self.matrix)

    def entries(self) -> scipy.sparse.csr_array:
        """Return the entries that are not zero, in CSR form."""
        if self._entries is None:
            self._entries = scipy.sparse.csr_array(np.asarray(self.matrix.cpu()))
        return self._entries

    @property
    def has_entries(self) -> bool:
        """Always; `entries` takes its time for a large matrix."""
        return True

    def diagonal(self) -> Tensor:
        """Return the diagonal, shape ``[min(m, n)]``."""
        return self.matrix.diagonal()

    def column_norms(self) -> Tensor:
        """Return the norm of each column, shape ``[n]``."""
        return column_norms(self.matrix)

    def frobenius_norm(self) -> float:
        """Return the Frobenius norm."""
        if math.isfinite(self._norm):
            return self._norm
        largest = self.matrix.abs().max()
        return float(largest) * float(torch.linalg.vector_norm(self.matrix / largest))

    def double(self) -> Operator:
        """Return the same matrix in double precision; converted once."""
        wide = torch.promote_types(self.dtype, torch.float64)
        if wide == self.dtype:
            return self
        if self._double is None:
            traits = {"symmetric": self.traits.symmetric, "definite": self.traits.definite}
            self._double = DenseOperator(self.matrix.to(wide), **traits)
        return self._double
