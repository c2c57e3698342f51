"""Smoothed aggregation: prolongations between levels, from the entries of a matrix alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from precond.math.sparse.multigrid import Array, Sparse, kernels
from precond.math.sparse.products import rows_times_csr, unsigned

_steps = 6  # of the Lanczos process for the spectral radius
_sweeps = 2  # of Gauss-Seidel on the candidate


def aggregates(matrix: Sparse, threshold: float) -> tuple[Array, int, Array]:
    """Group the unknowns of a matrix by strong connections, ``|a_ij|^2 > threshold^2 |a_ii a_jj|``.

    Args:
        matrix: Hermitian, CSR.
        threshold: Between zero (every entry is strong) and one.

    Returns:
        The aggregate of each unknown (-1 for those without strong neighbours), how many there are, and which entries
        are strong.
    """
    root = np.sqrt(np.abs(matrix.diagonal()))
    bound = np.repeat(threshold * root, np.diff(matrix.indptr)) * root[matrix.indices]
    strong = np.abs(matrix.data) > bound
    member = np.empty(matrix.shape[0], np.int64)
    count = int(kernels().aggregate(matrix.indptr, matrix.indices, strong, member))
    return member, count, strong


def smoothed_prolongation(matrix: Sparse, candidate: Array, threshold: float) -> tuple[Sparse, Array] | None:
    """Return a prolongation that reproduces a vector of small energy, and that vector on the coarse level.

    ``P = (I - (4 / 3) / rho(D^-1 A_F) D^-1 A_F) T`` with the tentative ``T``, whose columns are the candidate on one
    aggregate each, normalized, and the filtered ``A_F``: weak entries of ``A`` are added to its diagonal.

    Args:
        matrix: Hermitian, CSR, with a positive diagonal where an unknown has strong neighbours.
        candidate: The vector, shape ``[n]``.
        threshold: What counts as strong.

    Returns:
        ``P`` and the norms of the candidate on the aggregates; ``None`` when there is nothing to aggregate.
    """
    member, count, strong = aggregates(matrix, threshold)
    if count == 0:
        return None
    inside = member >= 0
    norms = np.sqrt(np.bincount(member[inside], np.abs(candidate[inside]) ** 2, minlength=count))
    norms[norms == 0] = 1
    pointers = np.concatenate([[0], np.cumsum(inside)]).astype(matrix.indptr.dtype)
    columns = member[inside].astype(matrix.indices.dtype)
    values = (candidate[inside] / norms[columns]).astype(matrix.dtype)
    tentative = scipy.sparse.csr_array((values, columns, pointers), shape=(matrix.shape[0], count))
    filtered = _filtered(matrix, strong)
    inverse = 1 / _nonzero(np.abs(filtered.diagonal()))
    radius = spectral_radius(filtered, inverse)
    step = (4 / 3) / radius if radius > 0 else 0.0
    smooth = filtered @ tentative
    smooth.data *= np.repeat(-step * inverse, np.diff(smooth.indptr)).astype(inverse.dtype)
    return scipy.sparse.csr_array(tentative + smooth), norms


def spectral_radius(matrix: Sparse, inverse: Array) -> float:
    """Estimate the largest eigenvalue of ``D^-1 A`` by a few Lanczos steps on ``D^-1/2 A D^-1/2``.

    Args:
        matrix: Hermitian, CSR.
        inverse: ``D^-1``, positive, shape ``[n]``.

    Returns:
        The largest absolute Ritz value.
    """
    parts, root = unsigned(matrix), np.sqrt(inverse)
    q = np.random.default_rng(0).standard_normal((1, matrix.shape[0])).astype(matrix.dtype)
    q /= np.linalg.norm(q)
    before, beta = np.zeros_like(q), 0.0
    diagonal, beside = list[float](), list[float]()
    for _ in range(min(_steps, matrix.shape[0])):  # so few that nothing need be reorthogonalized
        w = root * rows_times_csr(parts, root * q)
        w -= beta * before
        diagonal.append(float(np.vdot(q, w).real))
        w -= diagonal[-1] * q
        before, beta = q, float(np.linalg.norm(w))
        if not beta > 1e-10 * abs(diagonal[0]):
            break
        beside.append(beta)
        q = w / beta
    ends = np.array(beside[: len(diagonal) - 1])
    values = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(ends, 1) + np.diag(ends, -1))
    return float(np.abs(values).max())


def low_energy(matrix: Sparse) -> Array:
    """Return a vector that relaxation hardly reduces: smooth in the sense of the matrix, with largest entry one.

    The constant or ``|a_ii|^-1/2`` (the constant of the matrix scaled to unit diagonal), whichever has the smaller
    quotient ``<x, A x> / <x, D x>``, after a few Gauss-Seidel sweeps on ``A x = 0``.

    Args:
        matrix: Hermitian, CSR.

    Returns:
        The vector, shape ``[n]``.
    """
    sizes = np.abs(matrix.diagonal())
    starts = [np.ones(matrix.shape[0], matrix.dtype), (1 / np.sqrt(_nonzero(sizes))).astype(matrix.dtype)]
    energies = [abs(np.vdot(x, matrix @ x)) / max(float((np.abs(x) ** 2 * sizes).sum()), 1e-300) for x in starts]
    x = starts[int(energies[1] < 0.9 * energies[0])]
    start = x.copy()
    for _ in range(_sweeps):
        kernels().relax(matrix.indptr, matrix.indices, matrix.data, x)
    largest = np.abs(x).max(initial=0)
    return x / largest if 0 < largest < np.inf else start


def _filtered(matrix: Sparse, strong: Array) -> Sparse:
    """Return the matrix with its weak entries added to the diagonal."""
    if strong.all():
        return matrix
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    weak = ~strong & (matrix.indices != row) & (matrix.data != 0)
    lumped = np.zeros(matrix.shape[0], matrix.dtype)
    np.add.at(lumped, row[weak], matrix.data[weak])
    data = np.where(weak, 0, matrix.data)
    kept = scipy.sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
    kept = scipy.sparse.csr_array(kept + scipy.sparse.diags_array(lumped))
    kept.eliminate_zeros()
    return kept


def _nonzero(values: Any) -> Array:
    return np.where(values == 0, 1, values)
