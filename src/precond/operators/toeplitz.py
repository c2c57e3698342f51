"""Toeplitz matrices: constant along diagonals, multiplied by fast Fourier transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import BadInputError, Operator, OperatorTraits
from precond.math.toeplitz import embedded, product
from precond.operators.checks import check_finite, working_dtype


class ToeplitzOperator(Operator):
    """The square matrix with ``a_ij = t_{i-j}``, by products of ``O(n log n)``.

    Args:
        column: The first column ``t_0, t_1, ..``, shape ``[n]``; NumPy or torch.
        row: The first row ``t_0, t_-1, ..``, shape ``[n]``; the conjugate of the column if not given.
        definite: Whether it is positive definite, where that is known.

    Raises:
        BadInputError: The lengths or the first entries differ, or an entry is not finite.
    """

    def __init__(self, column: Any, row: Any = None, *, definite: bool | None = None) -> None:
        c = _as_vector(column)
        r = c.conj() if row is None else _as_vector(row)
        if c.ndim != 1 or r.shape != c.shape or c.numel() == 0:
            raise BadInputError(
                f"a Toeplitz matrix needs its first column and row as vectors of one length, at least 1: got "
                f"{tuple(c.shape)} and {tuple(r.shape)}"
            )
        self.dtype = working_dtype(torch.promote_types(c.dtype, r.dtype))
        self.column, self.row = c.to(self.dtype).resolve_conj(), r.to(self.dtype).resolve_conj()
        for vector, place in ((self.column, lambda k: (k, 0)), (self.row, lambda k: (0, k))):
            check_finite(vector.numpy(force=True), place)
        if row is not None and bool(self.column[0] != self.row[0]):
            raise BadInputError(
                f"column and row of a Toeplitz matrix begin with the same entry, not {self.column[0]} and {self.row[0]}"
            )
        n = c.numel()
        self.shape, self.device = (n, n), self.column.device
        symmetric = bool((self.row == self.column.conj()).all())
        refuted = definite is None and (not symmetric or not float(self.column[0].real) > 0)
        self.traits = OperatorTraits(symmetric, False if refuted and symmetric else definite)
        self._spectrum = embedded(self.column, self.row)
        self._double: ToeplitzOperator | None = None

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x`` for each row of ``x``."""
        return product(self._spectrum, x)

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A^H y`` for each row of ``y``."""
        return product(self._spectrum.conj(), y)

    def diagonal(self) -> Tensor:
        """Return the diagonal, constant."""
        return self.column[:1].expand(self.shape[0])

    def frobenius_norm(self) -> float:
        """Return the Frobenius norm, from the number of entries of each diagonal."""
        n = self.shape[0]
        counts = torch.arange(n, 0, -1, device=self.device, dtype=torch.float64)
        below, above = self.column.abs().double() ** 2 * counts, self.row.abs().double() ** 2 * counts
        return float((below.sum() + above[1:].sum()).sqrt())

    def double(self) -> Operator:
        """Return the same matrix in double precision; converted once."""
        wide = torch.promote_types(self.dtype, torch.float64)
        if wide == self.dtype:
            return self
        if self._double is None:
            self._double = ToeplitzOperator(self.column.to(wide), self.row.to(wide), definite=self.traits.definite)
        return self._double


def _as_vector(values: Any) -> Tensor:
    """Return values as a tensor; numbers in a list are double, as for NumPy."""
    if isinstance(values, Tensor):
        return values
    try:
        return torch.as_tensor(np.asarray(values, order="C"))
    except (TypeError, ValueError) as error:
        raise BadInputError(f"cannot read numbers from {type(values).__name__}: give a vector") from error
