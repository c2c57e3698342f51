"""Small dense regressions in arrays, for which the calls of torch would be most of the time."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LARGEST = 2**21
"""Products of numbers in a Hessian up to which a regression is small: beyond it operations take longer than calls."""


class SmallRegression(abc.ABC):
    """``scale sum_i F_i(products with a_i) + ridge/2 ||x||^2`` in float64 on the CPU.

    Args:
        matrix: Rows ``a_i``, ``[m, d]``.
        scale: Weight of the sum.
        ridge: Weight of the squares of the variables.
    """

    def __init__(self, matrix: Array, scale: float, ridge: float) -> None:
        self.matrix, self.scale, self.ridge = matrix, scale, ridge

    @abc.abstractmethod
    def evaluate(self, x: Array) -> tuple[float, Array, Array]:
        """Return value and gradient at ``x`` ``[n]``, and what `hessian` takes."""

    @abc.abstractmethod
    def hessian(self, bend: Array) -> Array:
        """Return the Hessian, ``[n, n]``, in memory of its own."""


class SmallLogistic(SmallRegression):
    """Logistic regression; ``labels`` are -1 and 1, ``[m]``."""

    def __init__(self, matrix: Array, labels: Array, scale: float, ridge: float) -> None:
        super().__init__(matrix, scale, ridge)
        self.labels = labels

    def evaluate(self, x: Array) -> tuple[float, Array, Array]:
        """Return value, gradient, and ``s (1 - s)`` with ``s = 1 / (1 + exp(b z))``."""
        margins = self.labels * (self.matrix @ x)
        small = np.exp(-np.abs(margins))
        total = np.log1p(small).sum() - np.minimum(margins, 0.0).sum()
        below = 1.0 / (1.0 + small)
        above = small * below
        slopes = np.where(margins > 0, above, below) * self.labels
        gradient = slopes @ self.matrix
        gradient *= -self.scale
        gradient += self.ridge * x
        return float(self.scale * total + self.ridge / 2 * (x @ x)), gradient, above * below

    def hessian(self, bend: Array) -> Array:
        """Return ``scale A' diag(s (1 - s)) A + ridge I``."""
        scaled = self.matrix * np.sqrt(self.scale * bend)[:, None]
        found = scaled.T @ scaled
        found.ravel()[:: len(found) + 1] += self.ridge
        return found


class SmallSoftmax(SmallRegression):
    """Softmax regression; ``classes`` are the places of the labels among ``count`` of them, ``[m]``."""

    def __init__(self, matrix: Array, classes: Array, count: int, scale: float, ridge: float) -> None:
        super().__init__(matrix, scale, ridge)
        self.shape = (matrix.shape[1], count)
        self.chosen = np.zeros((count, len(matrix)))
        self.chosen[classes, np.arange(len(matrix))] = 1.0
        self.others = 1.0 - np.eye(count)

    def evaluate(self, x: Array) -> tuple[float, Array, Array]:
        """Return value, gradient, and the probabilities of each class, ``[k, m]``."""
        scores = x.reshape(self.shape).T @ self.matrix.T
        scores -= scores.max(0)
        p = np.exp(scores)
        sums = p.sum(0)
        p /= sums
        total = np.log(sums).sum() - np.vdot(scores, self.chosen)
        gradient = ((p - self.chosen) @ self.matrix).T.ravel()
        gradient *= self.scale
        gradient += self.ridge * x
        return float(self.scale * total + self.ridge / 2 * (x @ x)), gradient, p

    def hessian(self, bend: Array) -> Array:
        """Return ``scale sum_i (diag(p_i) - p_i p_i') (x) a_i a_i' + ridge I`` without cancellation."""
        d, k = self.shape
        rows = self.matrix[:, :, None]
        spread = (rows * bend.T[:, None]).reshape(-1, d * k)
        found = spread.T @ spread
        found *= -self.scale
        own = (rows * (self.scale * bend * (self.others @ bend)).T[:, None]).reshape(-1, d * k)
        np.einsum("acbc->abc", found.reshape(d, k, d, k))[...] = (self.matrix.T @ own).reshape(d, d, k)
        found.ravel()[:: len(found) + 1] += self.ridge
        return found
