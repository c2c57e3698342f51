"""Operators known by products, whose sparse matrix is recovered from a few of them."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Operator, OperatorTraits
from precond.math.sparse.patterns import Array, Pattern, find_pattern

logger = logging.getLogger(__name__)

CHUNK = 2**24
"""Bytes that the vectors of one call may take."""
AGREES = 1e-9
"""Largest difference of a product with a recovered row, relative to the sizes of what it sums."""
ROUNDINGS = 1000
"""The same in roundings of the operator's arithmetic, where these are larger: in single precision they are."""


class Recovered(Operator):
    """The matrix of an operator, with its entries at hand; symmetry and finiteness are not looked at.

    Args:
        matrix: CSR, ``[m, n]``.
        like: The operator it is the matrix of.
    """

    def __init__(self, matrix: scipy.sparse.csr_array, like: Operator) -> None:
        self.matrix = matrix
        self.shape = (int(matrix.shape[0]), int(matrix.shape[1]))
        self.dtype, self.device = like.dtype, like.device
        self.traits = OperatorTraits(symmetric=like.traits.symmetric)
        self._transposed = matrix.T

    def matvec(self, x: Tensor) -> Tensor:
        """Return the product with each row of ``x``."""
        return torch.from_numpy(np.ascontiguousarray((self.matrix @ x.numpy(force=True).T).T)).to(x)

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return the product of the transpose with each row of ``y``."""
        return torch.from_numpy(np.ascontiguousarray((self._transposed @ y.numpy(force=True).T).T)).to(y)

    def entries(self) -> scipy.sparse.csr_array:
        """Return the matrix: do not write to it."""
        return self.matrix


@dataclasses.dataclass
class Compressor:
    """Recovers matrices of one pattern, which it learns and widens when a product contradicts it.

    Attributes:
        symmetric: Whether the matrices are.
        pattern: Where they have entries; ``None`` before anything was learned.
        seed: Seed of random vectors.
    """

    symmetric: bool
    pattern: Pattern | None = None
    seed: int = 0

    def learn(self, operator: Operator) -> bool:
        """Add the entries of an operator to the pattern; return whether it is sparse enough to be recovered."""
        found = find_pattern(lambda v: _products(operator, v), operator.shape, symmetric=self.symmetric, seed=self.seed)
        if found is None:
            self.pattern = None
            return False
        self.pattern = found if self.pattern is None else self.pattern.joined(found)
        logger.info(
            "%d by %d matrix: %d entries, recovered from %d products", *operator.shape, self.pattern.rows.nnz,
            self.pattern.count,
        )  # fmt: skip
        return True

    def recover(self, operator: Operator) -> Operator:
        """Return the operator with its entries; the operator itself where its matrix is not sparse any more.

        One product with a random vector checks the entries; where it disagrees the pattern is widened.
        """
        for _ in range(2):
            if self.pattern is None:
                return operator
            matrix = self._entries(operator, self.pattern)
            vector = np.random.default_rng(self.seed).normal(size=(1, operator.shape[1]))
            seen, sizes = _products(operator, vector)[0], abs(matrix) @ np.abs(vector[0])
            agrees = max(AGREES, ROUNDINGS * torch.finfo(operator.dtype).eps)
            off = np.abs(matrix @ vector[0] - seen) > agrees * (sizes + np.abs(seen))
            if not bool(off.any()):
                return Recovered(matrix, operator)
            logger.info("%d rows have entries that were zero before: looking for them", int(off.sum()))
            if not self.learn(operator):
                return operator
        return Recovered(matrix, operator)

    def _entries(self, operator: Operator, pattern: Pattern) -> scipy.sparse.csr_array:
        m, n = operator.shape
        dtype = torch.empty(0, dtype=operator.dtype).numpy().dtype
        step = max(1, CHUNK // (8 * max(m, n, 1)))
        parts = [
            _products(operator, pattern.seeds(first, min(first + step, pattern.count), dtype))
            for first in range(0, pattern.count, step)
        ]
        matrix = pattern.recover(np.concatenate(parts) if parts else np.zeros((0, m), dtype))
        if self.symmetric:
            matrix = scipy.sparse.csr_array((matrix + matrix.T) / 2)
        if len(pattern.full):
            units = np.zeros((len(pattern.full), m), dtype)
            units[np.arange(len(pattern.full)), pattern.full] = 1
            rows = _products(operator, units, adjoint=True)
            full = scipy.sparse.csr_array(
                (rows.ravel(), (np.repeat(pattern.full, n), np.tile(np.arange(n), len(pattern.full)))), shape=(m, n)
            )
            matrix = matrix + full
            if self.symmetric:
                rows[:, pattern.full] = 0  # entries in two full rows are there once
                matrix = matrix + scipy.sparse.csr_array(
                    (rows.ravel(), (np.tile(np.arange(n), len(pattern.full)), np.repeat(pattern.full, n))), shape=(m, n)
                )
        return scipy.sparse.csr_array(matrix)


def _products(operator: Operator, vectors: Array, *, adjoint: bool = False) -> Array:
    x = torch.from_numpy(vectors).to(operator.device, operator.dtype)
    result: np.ndarray[Any, Any] = (operator.rmatvec(x) if adjoint else operator.matvec(x)).numpy(force=True)
    return result
