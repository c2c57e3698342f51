"""Symmetric matrices near those of operators, from a sketch of their data or from few products."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.core import Operator
from precond.core.materialize import CHUNK, materialize

ROWS = 4
"""Rows of a sketch of the data for each column."""
SHARE = 8
"""A subspace has this part of all dimensions."""
LEAST = 64
"""Dimensions of a subspace, at least."""
PROBES = 8
TINY = 1e-10
"""Eigenvalues of ``T`` below this share of the largest are raised to it."""


def near(operator: Operator, level: int = 0, seed: int = 0) -> Tensor:
    """Return a random symmetric matrix near that of an operator, ``[n, n]``.

    Operators that know the data they are made of sketch them, with ``4 2^level n`` rows. Of others a random subspace of
    ``n / 8 2^level`` dimensions is multiplied, and what is known of the products is kept; see `subspace`. Where that is
    half of all dimensions or more the matrix is materialized.

    Args:
        operator: Symmetric, ``[n, n]``.
        level: How often the effort is doubled.
        seed: Equal seeds give equal matrices.

    Returns:
        The matrix.

    Raises:
        IncompatibleError: A dense matrix of this size takes more than the limit on memory.
    """
    n = operator.shape[0]
    dense = operator.dense()
    if dense is None:
        dense = operator.approximated(ROWS * 2**level * n, seed)
    if dense is not None:
        return (dense + dense.mT) / 2
    rank = max(LEAST, n // SHARE) * 2**level
    matrix = materialize(operator) if 2 * rank >= n else subspace(operator, rank, seed)
    return (matrix + matrix.mT) / 2


def subspace(operator: Operator, rank: int, seed: int = 0) -> Tensor:
    """Return ``A Q T^-1 Q'A + tau (I - Q Q')``, ``T = Q'A Q``, for an orthonormal ``Q`` near the range of ``A``.

    It agrees with ``A`` in all products with ``Q``, which is had from products with random vectors (N. Halko, P. G.
    Martinsson, J. A. Tropp, *Finding structure with randomness*, arXiv 0909.4061), and has the inertia of ``T`` and
    ``tau I`` together: definite where ``A`` is. The mean curvature ``tau`` of the rest, ``A - A Q T^-1 Q'A``, is
    estimated from eight products.

    Args:
        operator: Symmetric, ``[n, n]``; definite or not.
        rank: Columns of ``Q``, at most ``n``.
        seed: Of the random vectors.

    Returns:
        The matrix, ``[n, n]``.
    """
    n = operator.shape[0]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(min(rank, n), n, generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)
    q = torch.linalg.qr(_products(operator, drawn).mT).Q
    image = _products(operator, q.mT.contiguous()).mT
    core = q.mT @ image
    if not bool(torch.isfinite(core).all()):
        return torch.full((n, n), torch.nan, dtype=q.dtype, device=q.device)
    values, vectors = torch.linalg.eigh((core + core.mT) / 2)
    least = TINY * float(values.abs().max())
    values = torch.where(values.abs() > least, values, least if least > 0 else 1.0)
    half = image @ vectors
    signs = (torch.randint(0, 2, (PROBES, n), generator=generator) * 2 - 1).to(q)
    rest = signs - (signs @ q) @ q.mT
    size = float(rest.square().sum())
    curved = float((rest * operator.matvec(rest)).sum() - ((rest @ half).square() / values).sum())
    tail = curved / size if size > TINY * n else 0.0
    matrix = (half / values) @ half.mT - tail * (q @ q.mT)
    matrix.diagonal().add_(tail)
    return matrix


def _products(operator: Operator, rows: Tensor) -> Tensor:
    return torch.cat([operator.matvec(part) for part in torch.split(rows, CHUNK)])
