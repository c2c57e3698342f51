"""The functions that a fit was asked with, each evaluated once at a point, and what robust losses make of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from precond.scipy.optimize import differences
from precond.scipy.robust import Array, Robust
from precond.solvers.squares.fit import SIDE, too_large


@dataclasses.dataclass
class Asked:
    """Residuals and their Jacobian, as given or by differences within bounds.

    Attributes:
        fun: The residuals, ``fun(x, *args, **kwargs)``.
        jac: The Jacobian, likewise; ``None`` for differences.
        args: Further arguments.
        kwargs: Further arguments by name.
        lower: Lower bounds, ``[n]``.
        upper: Upper bounds, ``[n]``.
        residuals: Calls of ``fun``.
        jacobians: Calls of ``jac``, or Jacobians by differences.
        start: The first point, ``[n]``.
    """

    fun: Callable[..., Any]
    jac: Callable[..., Any] | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    lower: Array
    upper: Array
    residuals: int = 0
    jacobians: int = 0
    start: Array = dataclasses.field(default_factory=lambda: np.zeros(0))
    _last: dict[str, tuple[Array, Any]] = dataclasses.field(default_factory=dict)

    def residual(self, x: Array) -> Array:
        """Return the plain residuals, ``[m]``; not to be written to."""
        if not self.residuals:
            self.start = x.copy()
        return self._known("fun", x, self._residual)

    def jacobian(self, x: Array) -> Any:
        """Return the plain Jacobian ``[m, n]``: an array, a sparse matrix or a ``LinearOperator``."""
        return self._known("jac", x, self._jacobian)

    def cost(self, robust: Robust | None, x: Array) -> float:
        """Return half the sum of squares, or of the robust loss."""
        f = self.residual(x)
        return float(f @ f) / 2 if robust is None else robust.cost(f)

    def gradient(self, robust: Robust | None, x: Array) -> Array:
        """Return the gradient of the cost, ``[n]``."""
        f = self.residual(x)
        return np.asarray(self.jacobian(x).T @ (f if robust is None else robust.weight(f) * f)).reshape(-1)

    def transformed(self, robust: Robust | None, x: Array) -> Array:
        """Return residuals whose squares are the loss, ``[m]``."""
        f = self.residual(x)
        return f if robust is None else robust.residual(f)

    def rows(self, robust: Robust | None, x: Array) -> Any:
        """Return the Jacobian of those, ``[m, n]``."""
        matrix = matrix_of(self.jacobian(x))
        return matrix if robust is None else scaled(matrix, robust.slope(self.residual(x)))

    def _known(self, name: str, x: Array, evaluate: Callable[[Array], Any]) -> Any:
        last = self._last.get(name)
        if last is None or not np.array_equal(last[0], x):
            last = self._last[name] = (x.copy(), evaluate(x.copy()))
        return last[1]

    def _residual(self, x: Array) -> Array:
        self.residuals += 1
        return np.atleast_1d(np.array(self.fun(x, *self.args, **self.kwargs), dtype=float))

    def _jacobian(self, x: Array) -> Any:
        self.jacobians += 1
        if self.jac is None:
            return differences(self._residual, x, self.lower, self.upper)
        value = self.jac(x, *self.args, **self.kwargs)
        if isinstance(value, scipy.sparse.linalg.LinearOperator) or scipy.sparse.issparse(value):
            return value
        return np.atleast_2d(np.array(value, dtype=float))


def by_products(slopes: Any) -> bool:
    """Whether a Jacobian (``None`` for differences) is one that is used by its products alone."""
    if isinstance(slopes, scipy.sparse.linalg.LinearOperator):
        return slopes.shape[1] > SIDE
    return scipy.sparse.issparse(slopes) and too_large(slopes.shape)


def matrix_of(value: Any) -> Any:
    """Return a Jacobian as an array, a sparse matrix, or a ``LinearOperator`` of many columns."""
    if isinstance(value, scipy.sparse.linalg.LinearOperator) and value.shape[1] <= SIDE:
        return value @ np.eye(value.shape[1])
    return value


def scaled(matrix: Any, factors: Array) -> Any:
    """Return the matrix with its rows multiplied by the factors."""
    if isinstance(matrix, scipy.sparse.linalg.LinearOperator):
        return scipy.sparse.linalg.aslinearoperator(scipy.sparse.diags_array(factors)) @ matrix
    return scipy.sparse.diags_array(factors) @ matrix if scipy.sparse.issparse(matrix) else factors[:, None] * matrix
