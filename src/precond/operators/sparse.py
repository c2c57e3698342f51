"""A sparse matrix as an operator: compiled products on the CPU, torch's on other devices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Embedding, Operator, OperatorTraits
from precond.math.krylov.vectors import rows
from precond.math.machine.heap import keep_freed_memory
from precond.math.sparse.products import asymmetry, rows_times_csr, unsigned
from precond.operators.checks import (
    DECLARED,
    check_finite,
    check_shape,
    numpy_dtype,
    refuse_symmetric,
    torch_dtype,
    working_dtype,
)


class SparseOperator(Operator):
    """The linear map of a sparse matrix, kept in CSR form with sorted indices and no duplicates.

    Args:
        matrix: Any SciPy sparse matrix or array, shape ``[m, n]``; integers are converted to float64.
        device: Where vectors live.
        symmetric: Whether it equals its conjugate transpose; found by comparing the entries when not given.
        definite: Whether it is positive definite; a diagonal entry that is not positive proves that it is not.
    """

    def __init__(
        self,
        matrix: scipy.sparse.sparray | scipy.sparse.spmatrix,
        *,
        device: torch.device | str = "cpu",
        symmetric: bool | None = None,
        definite: bool | None = None,
    ) -> None:
        check_shape(matrix.shape)
        csr = scipy.sparse.csr_array(matrix)
        if not csr.has_canonical_format:
            csr = csr.copy()
            csr.sum_duplicates()
        self.dtype = working_dtype(torch_dtype(csr.dtype))
        self.matrix = csr.astype(numpy_dtype(self.dtype), copy=False)
        check_finite(
            self.matrix.data,
            lambda k: (int(np.searchsorted(csr.indptr, k, side="right")) - 1, int(csr.indices[k])),
        )
        self.shape = (int(csr.shape[0]), int(csr.shape[1]))
        self.device = torch.device(device)
        self._on_device: Tensor | None = None
        if self.device.type != "cpu":
            self._on_device = torch.sparse_csr_tensor(
                torch.from_numpy(self.matrix.indptr),
                torch.from_numpy(self.matrix.indices),
                torch.from_numpy(self.matrix.data),
                self.shape,
                device=self.device,
            )
        found = asymmetry(self.matrix, math.inf if symmetric else DECLARED)
        if symmetric and found > DECLARED:
            refuse_symmetric(found)
        if symmetric is None:
            symmetric = found <= 4 * torch.finfo(self.dtype).eps
        if definite is None and symmetric and not bool((self.matrix.diagonal().real > 0).all()):
            definite = False
        self.traits = OperatorTraits(symmetric, definite)
        self.side_by_side = self.device.type == "cpu" and not self.dtype.is_complex
        self._parts = unsigned(self.matrix)
        keep_freed_memory()
        self._adjoint: scipy.sparse.csc_array | None = None
        self._double: SparseOperator | None = None
        self._norm: float | None = None

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x`` for each row of ``x``."""
        if self._on_device is not None:
            return (self._on_device @ x.mT).mT.contiguous()
        vectors = rows(x)
        assert isinstance(vectors, np.ndarray)
        return torch.from_numpy(rows_times_csr(self._parts, vectors))

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A^H y`` for each row of ``y``."""
        if self.traits.symmetric:
            return self.matvec(y)
        if self._on_device is not None:
            return (self._on_device.mH @ y.mT).mT.contiguous()
        if self._adjoint is None:
            self._adjoint = self.matrix.T if not self.dtype.is_complex else self.matrix.conj().T
        return _product(self._adjoint, y)

    def compiled(self) -> tuple[Any, ...] | None:
        """Return the arrays of the matrix, where it is on the CPU."""
        plain = self.device.type == "cpu" and type(self).matvec is SparseOperator.matvec
        return self._parts if plain else None

    def sketched(self, embedding: Embedding) -> Tensor:
        """Return ``S A``, shape ``[size, n]``, by a sparse product where the sketch is sparse."""
        sparse = embedding.entries()
        if sparse is None:
            return super().sketched(embedding)
        return torch.from_numpy((sparse.astype(self.matrix.dtype, copy=False) @ self.matrix).toarray()).to(self.device)

    def entries(self) -> scipy.sparse.csr_array:
        """Return the matrix itself: do not write to it."""
        return self.matrix

    def frobenius_norm(self) -> float | None:
        """Return the Frobenius norm; computed once."""
        if self._norm is None:
            self._norm = super().frobenius_norm()
        return self._norm

    def double(self) -> Operator:
        """Return the same matrix in double precision; converted once."""
        wide = np.result_type(self.matrix.dtype, np.float64)
        if wide == self.matrix.dtype:
            return self
        if self._double is None:
            traits = {"symmetric": self.traits.symmetric, "definite": self.traits.definite}
            self._double = SparseOperator(self.matrix.astype(wide), device=self.device, **traits)
        return self._double


def _product(matrix: scipy.sparse.csc_array, x: Tensor) -> Tensor:
    """Return the product with each row of ``x``; rows are contiguous, so one product each needs no transposition."""
    vectors = rows(x)
    if len(vectors) == 1:
        return torch.from_numpy(matrix @ vectors[0]).unsqueeze(0)
    out = np.empty((len(vectors), matrix.shape[0]), np.result_type(matrix.dtype, numpy_dtype(x.dtype)))
    for row, vector in zip(out, vectors, strict=True):
        row[:] = matrix @ vector
    return torch.from_numpy(out)
