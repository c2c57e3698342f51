"""Factorizations of dense matrices where they live, on a device that is not the processor.

What `precond.math.dense.matrix` does by LAPACK, on torch tensors: the matrix, its factors and the solutions never leave
the device, and only whether a factorization succeeded is read back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from precond.math.dense.matrix import BELIEVED, SINGLE

Map = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Solves:
    """What solves with the factors of a matrix.

    Attributes:
        solve: Maps each row of ``[batch, n]`` to the solution for it.
        adjoint: The same for the conjugate transpose of the matrix.
    """

    solve: Map
    adjoint: Map


def factorized(matrix: Tensor, *, definite: bool, single: bool) -> Solves | None:
    """Factorize a square matrix on its device.

    Args:
        matrix: Shape ``[n, n]``.
        definite: By Cholesky, of a Hermitian positive definite matrix; else by LU with pivoting.
        single: In single precision, of the matrix divided by its largest entry.

    Returns:
        The factors; ``None`` where there are none: the matrix is not definite, or singular, in this precision.
    """
    if not single:
        return _cholesky(matrix) if definite else _lu(matrix)
    narrow = torch.complex64 if matrix.is_complex() else torch.float32
    scale = _size(matrix.abs().amax())
    found = factorized((matrix / scale).to(narrow), definite=definite, single=False)
    if found is None:
        return None

    def widened(inverse: Map) -> Map:
        def solve(v: Tensor) -> Tensor:
            size = _size(v.abs().amax())
            return inverse((v / size).to(narrow)).to(v.dtype) * (size / scale)

        return solve

    return Solves(widened(found.solve), widened(found.adjoint))


def complete_factors(matrix: Tensor, *, definite: bool) -> Solves | None:
    """Factorize a square matrix, in single precision where `precond.math.dense.matrix.complete_factors` would.

    Args:
        matrix: Shape ``[n, n]``.
        definite: Whether to try Cholesky first.

    Returns:
        The factors; ``None`` where the matrix is singular.
    """
    n = len(matrix)
    wide = matrix.dtype in (torch.float64, torch.complex128)
    drawn = np.where(np.random.default_rng(0).random(n) < 0.5, -1.0, 1.0)
    signs = torch.from_numpy(drawn).to(matrix.dtype).to(matrix.device).unsqueeze(0)
    for cholesky in (True, False) if definite else (False,):
        for single in (True, False) if wide and n >= SINGLE else (False,):
            factors = factorized(matrix, definite=cholesky, single=single)
            if factors is None:
                continue
            if not single or bool((factors.solve(signs @ matrix.mT) - signs).abs().amax() <= BELIEVED):
                return factors
    return None


def _size(largest: Tensor) -> Tensor:
    """Return a scale to divide by: the largest entry, unless that is next to nothing."""
    return largest.clamp_min(1e-30)


def _cholesky(a: Tensor) -> Solves | None:
    """Return the Cholesky factors of a matrix, ``None`` where it is not definite."""
    factor, info = torch.linalg.cholesky_ex(a)
    if int(info) != 0:
        return None

    def solve(v: Tensor) -> Tensor:
        return torch.cholesky_solve(v.mT, factor).mT

    return Solves(solve, solve)


def _lu(a: Tensor) -> Solves | None:
    """Return the LU factors of a matrix, ``None`` where it is singular."""
    factor, pivots, info = torch.linalg.lu_factor_ex(a)
    if int(info) != 0:
        return None

    def solve(v: Tensor) -> Tensor:
        return torch.linalg.lu_solve(factor, pivots, v.mT).mT

    def adjoint(v: Tensor) -> Tensor:
        return torch.linalg.lu_solve(factor, pivots, v.mT, adjoint=True).mT

    return Solves(solve, adjoint)
