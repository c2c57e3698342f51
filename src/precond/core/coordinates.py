"""A smooth function seen through its coordinates: what block coordinate descent asks of it."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from precond.core.errors import IncompatibleError
from precond.core.operator import Operator
from precond.core.penalty import Scalars

if TYPE_CHECKING:
    import scipy.sparse


class Coordinates(abc.ABC):
    """A smooth function with a current point that moves block by block; what moves cheaply is kept up to date.

    Args:
        x: The starting point, ``[n]``; it is copied.

    Attributes:
        x: The current point, ``[n]``: read it, and write it by `move` alone.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x.clone()

    @abc.abstractmethod
    def value(self) -> Tensor:
        """Return the function at the current point, 0-d."""

    @abc.abstractmethod
    def trial(self, block: Tensor, d: Tensor) -> Tensor:
        """Return the function at ``x`` with ``d`` ``[k]`` added in a block (its places, integers ``[k]``), 0-d."""

    @abc.abstractmethod
    def gradient(self) -> Tensor:
        """Return the gradient at the current point, ``[n]``."""

    @abc.abstractmethod
    def partial(self, block: Tensor) -> Tensor:
        """Return the entries of the gradient in a block, ``[k]``."""

    @abc.abstractmethod
    def hessian(self, block: Tensor) -> Tensor:
        """Return the entries of the Hessian of a block at the current point, ``[k, k]``."""

    @abc.abstractmethod
    def move(self, block: Tensor, d: Tensor) -> None:
        """Add ``d`` ``[k]`` to the current point in a block."""

    def bound(self, block: Tensor) -> Tensor:
        """Return a matrix ``[k, k]`` that is not less than the Hessian of a block anywhere."""
        raise self._unbounded()

    @property
    def rounds(self) -> bool:
        """Whether there are compiled rounds over all variables."""
        return False

    def round(self, order: Tensor, scalars: Scalars) -> float:
        """Move along each variable of ``order`` to the proximal point of its penalty, one after another.

        Args:
            order: Places of variables.
            scalars: The penalty.

        Returns:
            The norm of the moves, each times its curvature.
        """
        raise NotImplementedError

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the Hessian in CSR form where it is constant and sparse, ``None`` elsewhere."""
        return None

    def largest(self) -> float:
        """Return a bound on the largest eigenvalue of the Hessian anywhere."""
        raise self._unbounded()

    def product(self, block: Tensor, d: Tensor) -> Tensor:
        """Return the product of a matrix that is not less than the Hessian anywhere with ``d`` in a block, ``[n]``."""
        raise self._unbounded()

    def curvatures(self) -> Tensor:
        """Return bounds ``L_i`` on the curvature along each coordinate, ``[n]``."""
        raise self._unbounded()

    def dominating(self) -> Tensor:
        """Return a diagonal ``[n]`` that is not less than the Hessian anywhere."""
        raise self._unbounded()

    @property
    def bounded(self) -> bool:
        """Whether bounds on the curvature are known."""
        return type(self).curvatures is not Coordinates.curvatures

    @property
    def cheap(self) -> bool:
        """Whether a block's part of the gradient costs much less than the gradient."""
        return True

    def _unbounded(self) -> IncompatibleError:
        return IncompatibleError(
            "no bounds on the curvature of this function are known: state it as a linear model or a quadratic of "
            "precond.losses, or use precond.recipes.block_descent.block_descent(rule='gs', update='newton'), which "
            "needs none"
        )


def rows_of(operator: Operator, index: Tensor) -> Tensor:
    """Return the rows ``index`` of a symmetric operator, ``[k, n]``, by products with unit vectors, one by one.

    Batches of derivatives multiply with copies of a function's matrices, which costs more than products one by one.
    """
    unit = torch.zeros(1, operator.shape[1], dtype=operator.dtype, device=operator.device)
    rows = torch.empty(len(index), operator.shape[1], dtype=operator.dtype, device=operator.device)
    for row, place in enumerate(index.tolist()):
        unit[0, place] = 1
        rows[row] = operator.matvec(unit)[0]
        unit[0, place] = 0
    return rows
