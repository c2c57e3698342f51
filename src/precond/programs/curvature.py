"""How the Hessian of the Lagrangian is made positive definite on the tangent space of the constraints."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.math.sparse.inertia import factorize
from precond.operators.kkt import assemble


class Curvature(abc.ABC):
    """Chooses a multiple of the identity to add to the Hessian."""

    dense: ClassVar[bool] = True
    """Whether it asks for dense matrices."""

    @abc.abstractmethod
    def shift(self, hessian: Tensor, jacobian: Tensor, delta: float = 0.0) -> float:
        """Return the shift for dense matrices.

        Args:
            hessian: ``[n, n]``.
            jacobian: ``[m, n]``.
            delta: What the second block of the Newton system is shifted by; positive where the Jacobian has not full
                row rank.

        Returns:
            The multiple of the identity.
        """


def reduced_above(hessian: Tensor, jacobian: Tensor, threshold: float, delta: float = 0.0) -> bool:
    """Whether all eigenvalues of ``Z' H Z`` exceed ``threshold``, ``Z`` orthonormal, spanning the null space of ``J``.

    They do if and only if ``[[H - threshold I, J'], [J, 0]]`` has ``n`` positive and ``m`` negative eigenvalues, and
    where ``J`` has not full rank for some ``-delta I`` in the second block.
    """
    m, n = jacobian.shape
    found = factorize(assemble(hessian, jacobian, shift=-threshold, delta=delta))
    return found is not None and (found.positive, found.negative) == (n, m)


@final
@dataclasses.dataclass(frozen=True)
class FrobeniusShift(Curvature):
    """``margin + ||H||_F`` where the reduced Hessian has an eigenvalue below ``threshold``, else nothing.

    Source: I. Hong, S. Na, M. W. Mahoney, M. Kolar, arXiv 2305.18379 (their published code).
    """

    threshold: float = 1e-6
    margin: float = 0.1

    def shift(self, hessian: Tensor, jacobian: Tensor, delta: float = 0.0) -> float:
        """Return the shift; by Weyl's inequality it leaves eigenvalues of at least ``margin``."""
        if reduced_above(hessian, jacobian, self.threshold, delta):
            return 0.0
        return self.margin + float(torch.linalg.matrix_norm(hessian))


@final
@dataclasses.dataclass(frozen=True)
class LeastShift(Curvature):
    """The first of ``0, first, factor first, factor^2 first, ...`` that leaves the reduced Hessian above ``threshold``.

    Source: the idea of A. Waechter, L. T. Biegler, *On the implementation of an interior-point filter line-search
    algorithm*, 2006, section 3.1.
    """

    threshold: float = 1e-8
    first: float = 1e-4
    factor: float = 8.0

    def shift(self, hessian: Tensor, jacobian: Tensor, delta: float = 0.0) -> float:
        """Return the shift."""
        shift, unit = 0.0, torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
        while not reduced_above(hessian + shift * unit, jacobian, self.threshold, delta):
            shift = self.factor * shift or self.first
            if not shift < 1e40:  # not finite
                return self.first + float(torch.linalg.matrix_norm(hessian))
        return shift


@final
@dataclasses.dataclass(frozen=True)
class NoShift(Curvature):
    """The Hessian as it is, for problems that are convex on the constraints; needs no dense matrices."""

    dense: ClassVar[bool] = False

    def shift(self, hessian: Tensor, jacobian: Tensor, delta: float = 0.0) -> float:
        """Return zero."""
        return 0.0


@final
@dataclasses.dataclass(frozen=True)
class Convex(Curvature):
    """The Hessian as it is, as a matrix: for problems that are convex on the constraints, where rows are wanted."""

    def shift(self, hessian: Tensor, jacobian: Tensor, delta: float = 0.0) -> float:
        """Return zero."""
        return 0.0
