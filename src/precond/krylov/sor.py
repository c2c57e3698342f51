"""Successive over-relaxation, forth or forth and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, IncompatibleError, Iteration, Map, Need, Operator, Progress
from precond.krylov.inner import norm
from precond.math.sparse.relaxation import relaxation
from precond.math.sparse.sweeps import two_sweeps


@final
@dataclasses.dataclass(frozen=True)
class SOR(Iteration):
    """SOR for a matrix that is known by its entries.

    With ``A = L + D + U``::

        x = x + W^-1 r,      r = b - A x,      W = D / omega + L

    and for ``symmetric`` SSOR, ``W = omega / (2 - omega) (D / omega + L) D^-1 (D / omega + U)``. Both converge for
    every symmetric positive definite matrix and ``0 < omega < 2``; ``omega = 1`` is Gauss-Seidel.

    (D. M. Young, *Iterative methods for solving partial difference equations of elliptic type*, 1954; J. W. Sheldon,
    *On the numerical solution of elliptic difference equations*, 1955.)

    It takes no preconditioner: it is one (`SSOR`). Each row of ``b`` is a system of its own.

    Attributes:
        omega: Relaxation, in ``(0, 2)``.
        symmetric: Sweep forth and back.
    """

    omega: float = 1.0
    symmetric: bool = False

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    preconditioned: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the relaxation."""
        if not 0 < self.omega < 2:
            raise BadInputError(f"sor needs 0 < omega < 2, not {self.omega}")

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each sweep; the residual is ``||b - A x||``, computed."""
        matrix = operator.entries()
        if matrix is None:
            raise IncompatibleError("sor needs the entries of the matrix: use method='richardson'")
        x = x0.clone()
        r = b - operator.matvec(x) if bool(x.any()) else b.clone()
        yield Progress(norm(r), x.clone)
        lower, upper, scales, _ = relaxation(matrix, self.omega, symmetric=self.symmetric)
        while bool(r.any()):
            swept = two_sweeps(lower, upper, scales, r.contiguous().numpy(force=True))
            x += torch.from_numpy(swept).to(x.device)
            r = b - operator.matvec(x)
            yield Progress(norm(r), x.clone)
        yield Progress(norm(r), x.clone, solved=True)
