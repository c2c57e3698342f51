"""A dense factorization in the place of an iteration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from precond.core import Iteration, Map, Operator, Progress, Status
from precond.core.materialize import LIMIT, materialize
from precond.krylov.inner import norm


@final
@dataclasses.dataclass(frozen=True)
class Dense(Iteration):
    """Factorize ``A P = L U`` with pivoting, then refine: ``x <- x + P (LU)^-1 (b - A x)`` while the residual halves.

    Where inexact solves are expected this is the exact one; a preconditioner can help its conditioning.

    Source: J. H. Wilkinson, *Rounding Errors in Algebraic Processes*, 1963.

    Attributes:
        limit: Bytes that the matrix may take.
    """

    limit: int = LIMIT

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after the solve and each refinement."""
        x = x0.clone()
        r = b - operator.matvec(x)
        yield Progress(norm(r), x.clone)
        mapped = precondition(torch.eye(len(x[0]), dtype=x.dtype, device=x.device))  # rows P e_i
        factors, pivots, info = torch.linalg.lu_factor_ex(materialize(operator, self.limit) @ mapped.mT)
        if bool(info.any()):
            yield Progress(norm(r), x.clone, failure=Status.FAILED_BREAKDOWN)
            return
        while True:
            better = x + torch.linalg.lu_solve(factors, pivots, r.mT).mT @ mapped
            remaining = b - operator.matvec(better)
            if not bool((norm(remaining) < norm(r) / 2).any()):
                yield Progress(norm(r), x.clone, solved=True)
                return
            x, r = better, remaining
            yield Progress(norm(r), x.clone)
