"""Ways to take inverse roots, as values that a preconditioner can hold."""

from __future__ import annotations

import abc
import dataclasses
from typing import final

from torch import Tensor

from precond.math.iterative_roots import coupled_inverse_sqrt, coupled_newton
from precond.math.roots import inverse_root


class InverseRoot(abc.ABC):
    """How to take ``A^(-1/p)`` of a batch of symmetric positive semidefinite matrices."""

    @abc.abstractmethod
    def __call__(self, matrices: Tensor, p: float) -> tuple[Tensor, Tensor]:
        """Return the roots ``[batch, n, n]`` and a mask ``[batch]`` of members without one."""


@final
@dataclasses.dataclass(frozen=True)
class Eigen(InverseRoot):
    """By an eigendecomposition: exact, for any order.

    Attributes:
        floor: Eigenvalues are raised to this fraction of the largest; rounding level unless given.
    """

    floor: float | None = None

    def __call__(self, matrices: Tensor, p: float) -> tuple[Tensor, Tensor]:
        """Return roots and failures."""
        return inverse_root(matrices, p, eps=self.floor)


@final
@dataclasses.dataclass(frozen=True)
class CoupledNewton(InverseRoot):
    """By the coupled Newton iteration: matrix products alone, for integer orders.

    Attributes:
        ridge: Added to the diagonal, as a fraction of the largest eigenvalue. Single precision needs about 1e-6.
        tolerance: Largest entry of the residual at which to stop.
        steps: Most iterations.
    """

    ridge: float = 1e-6
    tolerance: float = 1e-6
    steps: int = 100

    def __call__(self, matrices: Tensor, p: float) -> tuple[Tensor, Tensor]:
        """Return roots and failures."""
        order = round(p)
        if abs(order - p) > 1e-9:
            raise ValueError(f"the coupled Newton iteration takes integer roots, not order {p}: use Eigen()")
        roots, failed, _ = coupled_newton(matrices, order, ridge=self.ridge, tolerance=self.tolerance, steps=self.steps)
        return roots, failed


@final
@dataclasses.dataclass(frozen=True)
class CoupledQuintics(InverseRoot):
    """By a fixed number of quintic polynomials: matrix products alone, for square roots.

    Attributes:
        steps: Iterations; 10 reach conditions of 1e6.
    """

    steps: int = 10

    def __call__(self, matrices: Tensor, p: float) -> tuple[Tensor, Tensor]:
        """Return roots and failures."""
        if p != 2:
            raise ValueError(f"the coupled quintics take square roots, not order {p}: use Eigen() or CoupledNewton()")
        return coupled_inverse_sqrt(matrices, self.steps)
