"""Preconditioned conjugate gradients."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Iteration, Map, Operator, Progress, Status
from precond.krylov.inner import column, norm, numbers
from precond.math.vectors import advance, dots, redirect, rows


@final
@dataclasses.dataclass(frozen=True)
class CG(Iteration):
    """Conjugate gradients for ``A x = b`` with ``A`` symmetric (Hermitian) positive definite.

    With ``r_0 = b - A x_0`` and ``p_0 = P r_0``::

        alpha_k = <r_k, P r_k> / <p_k, A p_k>
        x_{k+1} = x_k + alpha_k p_k                     minimizes  <x, A x>/2 - <b, x>  over  x_0 + span(p_0 .. p_k)
        r_{k+1} = r_k - alpha_k A p_k
        beta_k  = <r_{k+1}, P r_{k+1}> / <r_k, P r_k>
        p_{k+1} = P r_{k+1} + beta_k p_k

    (M. R. Hestenes, E. Stiefel, *Methods of conjugate gradients for solving linear systems*, 1952.)

    Each row of ``b`` is a system of its own. A row whose residual has vanished for its precision stays where it is;
    when all have, the iteration is done.

    ``<p, A p> <= 0`` in some row ends the iteration with ``FAILED_INDEFINITE_OPERATOR``; the solution is the iterate
    before that step. In the very first step that would be ``x_0``, which says nothing; there, the rows that met
    non-positive curvature return ``x_0 + p_0`` instead, so that ``solution() - x_0`` is the direction of
    non-positive curvature (a truncated Newton method steps along it).
    """

    symmetric_operator: ClassVar[bool] = True
    definite_operator: ClassVar[bool] = True
    symmetric_preconditioner: ClassVar[bool] = True

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residual is the recurrence's ``||r_k||``."""
        x = x0.clone()
        r = b - operator.matvec(x) if bool(x.any()) else b.clone()
        yield Progress(norm(r), x.clone)
        z = precondition(r)
        p = z.clone()
        here, left, along = rows(x), rows(r), rows(p)  # the same memory, for updates in place
        rho = dots(left, rows(z))
        eps = torch.finfo(b.dtype).eps
        vanished = [eps**3 * abs(a) for a in rho]  # below it a row is frozen: <r, P r> is quadratic in r
        first = True
        while True:
            q = rows(operator.matvec(p))
            curvature = dots(along, q)
            active = [a > v for a, v in zip(rho, vanished, strict=True)]
            if not (all(active) and min(curvature) > 0):
                stop = _examine(x, r, p, rho, curvature, active, first)
                if stop is not None:
                    yield stop
                    return
            alpha = [a / c if on else 0.0 for a, c, on in zip(rho, curvature, active, strict=True)]
            residual = advance(here, left, alpha, along, q)
            yield Progress(numbers(residual, r), x.clone)
            z = precondition(r)
            before = rho
            rho = [a * a for a in residual] if z is r else dots(left, rows(z))
            beta = [a / c if on else 0.0 for a, c, on in zip(rho, before, active, strict=True)]
            redirect(along, beta, rows(z))
            first = False


def _examine(
    x: Tensor, r: Tensor, p: Tensor, rho: list[float], curvature: list[float], active: list[bool], first: bool
) -> Progress | None:
    """Return why the iteration ends where a row is done or meets no positive curvature; ``None`` if it goes on."""
    if any(a < 0 or (a == 0 and size > 0) for a, size in zip(rho, norm(r).tolist(), strict=True)):
        return Progress(norm(r), x.clone, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)
    flat = [on and not c > 0 and c == c for on, c in zip(active, curvature, strict=True)]
    if any(flat):
        if first:
            x = torch.where(column(torch.tensor(flat, device=x.device)), x + p, x)
        return Progress(norm(r), x.clone, failure=Status.FAILED_INDEFINITE_OPERATOR)
    if not any(on or not math.isfinite(a) for on, a in zip(active, rho, strict=True)):
        return Progress(norm(r), x.clone, solved=True)
    return None
