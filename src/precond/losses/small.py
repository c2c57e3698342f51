"""Small dense regressions in arrays, for which the calls of torch would be most of the time."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any

import numpy as np
import scipy.linalg.lapack

from precond.math.dense.definite import PIVOT

Array = np.ndarray[Any, Any]
LARGEST = 2**21
"""Products of numbers in a Hessian up to which a regression is small: beyond it operations take longer than calls."""


@dataclasses.dataclass(frozen=True)
class Steps:
    """Steps that were taken.

    Attributes:
        first: The starting point, with the value and the gradient there.
        last: The last point, likewise.
        norms: Norm of the gradient at the start and after each step.
        evaluated: Points that were evaluated.
    """

    first: tuple[Array, float, Array]
    last: tuple[Array, float, Array]
    norms: list[float]
    evaluated: int


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


def newton_steps(model: SmallRegression, x: Array, c1: float, tol: float, limit: int) -> Steps:
    """Take Newton's steps of length 1 until the gradient is small, or until one is none that a line search would take.

    Args:
        model: The regression.
        x: The starting point, ``[n]``.
        c1: Sufficient decrease, as a share of what the slope promises.
        tol: Bound on the norm of the gradient.
        limit: Largest number of steps.

    Returns:
        The steps.
    """
    value, gradient, bend = model.evaluate(x)
    last = first = (x, value, gradient)
    norms, evaluated = [math.sqrt(gradient @ gradient)], 1
    while norms[-1] > tol and len(norms) <= limit:
        matrix = model.hessian(bend)
        floor = PIVOT * matrix.diagonal()
        factor, info = scipy.linalg.lapack.dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
        pivots = factor.diagonal()
        if info or not (pivots * pivots > floor).all():
            break
        step = scipy.linalg.lapack.dpotrs(factor, gradient, lower=1)[0]
        slope, there = -(gradient @ step), x - step
        lower, ahead, bend = model.evaluate(there)
        evaluated += 1
        # a line search would take a shorter step, or a longer one where the slope is what it was
        if not (lower <= value + c1 * slope and lower < value and -(ahead @ step) > 0.99 * slope):
            break
        last = x, value, gradient = there, lower, ahead
        norms.append(math.sqrt(gradient @ gradient))
    return Steps(first, last, norms, evaluated)
