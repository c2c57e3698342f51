"""Ways to take inverse roots, as values that a preconditioner can hold."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.math.factors.eigen import safe_eigh
from precond.math.factors.iterative_roots import coupled_inverse_sqrt, coupled_newton
from precond.math.factors.roots import damped_root, inverse_root
from precond.math.factors.turns import adaptive_qr


class InverseRoot(abc.ABC):
    """How to take ``A^(-1/p)`` of a batch of symmetric positive semidefinite matrices."""

    warm: ClassVar[bool] = False
    """Whether it starts from the eigenvectors of the last time, which whoever calls it then keeps."""

    @abc.abstractmethod
    def __call__(self, matrices: Tensor, p: float, basis: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the roots ``[batch, n, n]`` and a mask ``[batch]`` of members without one.

        Args:
            matrices: Shape ``[batch, n, n]``.
            p: Order of the root.
            basis: The eigenvectors of the last time (the identity at first), improved in place; for warm ones alone.

        Returns:
            Roots and failures.
        """


@final
@dataclasses.dataclass(frozen=True)
class Eigen(InverseRoot):
    """By an eigendecomposition: exact, for any order.

    Attributes:
        floor: Eigenvalues are raised to this fraction of the largest; rounding level unless given.
    """

    floor: float | None = None

    def __call__(self, matrices: Tensor, p: float, basis: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return roots and failures."""
        return inverse_root(matrices, p, eps=self.floor)


@final
@dataclasses.dataclass(frozen=True)
class Damped(InverseRoot):
    """By an eigendecomposition of ``A + damping I``: an absolute ridge.

    Source: Distributed Shampoo (arXiv 2309.06497).

    Attributes:
        damping: Added to the diagonal.
        floor: Eigenvalues below this fraction of the largest are raised to it: in single precision they are noise.
    """

    damping: float = 1e-12
    floor: float = 1e-6

    def __call__(self, matrices: Tensor, p: float, basis: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return roots and failures."""
        values, vectors, failed = safe_eigh(_with_ridge(matrices, self.damping))
        return damped_root(values, vectors, p, self.damping, self.floor), failed


@final
@dataclasses.dataclass(frozen=True)
class AdaptiveQR(InverseRoot):
    """By QR iterations on the eigenvectors of the last time, where they have become too bad; see `adaptive_qr`.

    Sources: Eschenhagen et al. (arXiv 2506.03595); Distributed Shampoo (arXiv 2309.06497).

    Attributes:
        tolerance: Off-diagonal mass of ``Q^T A Q``, relative to the whole, up to which ``Q`` is kept as it is.
        iterations: Most QR iterations at a time.
        damping: Added to the diagonal.
        floor: Eigenvalues below this fraction of the largest are raised to it.
    """

    warm: ClassVar[bool] = True
    tolerance: float = 0.01
    iterations: int = 1
    damping: float = 1e-12
    floor: float = 1e-6

    def __call__(self, matrices: Tensor, p: float, basis: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return roots and failures; writes to ``basis``."""
        if basis is None:
            raise ValueError(
                "QR iterations need the eigenvectors of the last time: use Damped() where nobody keeps them"
            )
        ridged = _with_ridge(matrices, self.damping)
        values, vectors, failed, _ = adaptive_qr(ridged, basis, self.tolerance, self.iterations)
        basis.copy_(vectors)
        return damped_root(values, vectors, p, self.damping, self.floor), failed


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

    def __call__(self, matrices: Tensor, p: float, basis: Tensor | None = None) -> tuple[Tensor, Tensor]:
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

    def __post_init__(self) -> None:
        """Check the number of iterations."""
        if not isinstance(self.steps, int) or self.steps < 0:
            raise ValueError(f"the iterations of a root must be a whole number, not negative, not {self.steps!r}")

    def __call__(self, matrices: Tensor, p: float, basis: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return roots and failures."""
        if p != 2:
            raise ValueError(f"the coupled quintics take square roots, not order {p}: use Eigen() or CoupledNewton()")
        return coupled_inverse_sqrt(matrices, self.steps)


def _with_ridge(matrices: Tensor, damping: float) -> Tensor:
    return matrices + damping * torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
