"""One step of the Arnoldi process and of its least-squares problem, for each row of a batch."""

from __future__ import annotations

import dataclasses
import functools
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.math.krylov.vectors import rows

Array = np.ndarray[Any, Any]


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.krylov import arnoldi_kernels

    return arnoldi_kernels


def extend(basis: Tensor, w: Tensor, j: int, alive: Array, h: Array) -> tuple[Array, Array]:
    """Make ``w`` orthogonal to the first ``j + 1`` vectors of each row, and append it to them, normalized.

    By Gram-Schmidt, modified for each four vectors on the CPU and classical elsewhere, a second time where less than
    0.1 is left: so at most a digit of orthogonality is lost (H. Rutishauser's criterion; twice is enough: L. Giraud, J.
    Langou, M. Rozloznik, J. van den Eshof, 2005).

    Args:
        basis: Orthonormal vectors, shape ``[batch, m + 1, n]``; vector ``j + 1`` is written.
        w: Vectors, shape ``[batch, n]``; left as they are.
        j: Number of the step.
        alive: Rows whose space still grows; written. The new vector of the others is zero.
        h: Receives the coefficients, shape ``[batch, m + 1]``, in double precision.

    Returns:
        The norms of ``w`` before, and of what was left, zero in rows that have ended; shape ``[batch]``.
    """
    rounding = float(torch.finfo(basis.dtype).eps)
    before, after = np.empty(len(w)), np.empty(len(w))
    if basis.is_cpu:
        _kernels().extend(basis.numpy(), w.resolve_conj().numpy(), j, rounding, alive, h, before, after)
        return before, after
    space = basis[:, : j + 1]
    before[:] = torch.linalg.vector_norm(w, dim=-1).cpu().numpy()
    h[:, : j + 1] = 0
    for _ in range(2):
        along = torch.einsum("bjn,bn->bj", space.conj(), w)
        w = w - torch.einsum("bjn,bj->bn", space, along)
        h[:, : j + 1] += along.cpu().numpy()
    after[:] = torch.linalg.vector_norm(w, dim=-1).cpu().numpy()
    alive &= after > rounding * before
    after[~alive] = 0
    scale = np.divide(1, after, out=np.zeros_like(after), where=after > 0)
    basis[:, j + 1] = w * torch.from_numpy(scale).to(w.device, w.dtype)[:, None]
    return before, after


def combined(factors: Array, *parts: Tensor) -> Tensor:
    """Return ``factors [part; part; ...]``, combinations of vectors.

    On the CPU they are compiled: a general product of matrices gains little where one of them has a few rows.

    Args:
        factors: One row for each combination, shape ``[count, vectors]``.
        *parts: Vectors, shapes ``[some, n]``; together as many as a row of factors has entries.

    Returns:
        The combinations in the type of the vectors, shape ``[count, n]``.
    """
    like, at = parts[0], 0
    total = like.new_zeros(len(factors), like.shape[1])
    for part in parts:
        mine = np.ascontiguousarray(factors[:, at : at + len(part)])
        at += len(part)
        if like.is_cpu:
            out = total.numpy()
            _kernels().combine(mine.astype(out.dtype, copy=False), rows(part), out)
        else:
            total.addmm_(torch.from_numpy(mine).to(total), part)
    return total


@dataclasses.dataclass(frozen=True)
class Small:
    """``min || beta e_0 - H y ||`` of each row, kept triangular by one Givens rotation for each column.

    Attributes:
        c: Cosines, shape ``[batch, m]``.
        s: Sines.
        triangle: ``R``, shape ``[batch, m, m]``.
        right: The rotated ``beta e_0``, shape ``[batch, m + 1]``; its last entry so far is the residual.
    """

    c: Array
    s: Array
    triangle: Array
    right: Array

    @classmethod
    def start(cls, beta: Array, m: int, *, is_complex: bool) -> Small:
        """Return the problem without columns."""
        dtype, batch = complex if is_complex else float, len(beta)
        right = np.zeros((batch, m + 1), dtype)
        right[:, 0] = beta
        return cls(np.zeros((batch, m), dtype), np.zeros((batch, m)), np.zeros((batch, m, m), dtype), right)

    def append(self, h: Array, after: Array, tiny: Array, j: int) -> Array:
        """Append the column ``(h, after)`` and return the residuals.

        A column without a pivot (a dependent direction) gets pivot 1 and the rotation that swaps its rows, which makes
        its coefficient zero and leaves the residual as it was.
        """
        residual = np.empty(len(h))
        h[:, j + 1] = after
        _kernels().rotate(h, after, tiny, j, self.c, self.s, self.triangle, self.right, residual)
        return residual

    def minimizer(self, size: int) -> Array:
        """Return ``y`` of the first ``size`` columns, shape ``[batch, size]``."""
        y = self.right[:, :size].copy()
        _kernels().substitute(self.triangle, y)
        return y
