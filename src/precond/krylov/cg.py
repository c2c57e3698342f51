"""Preconditioned conjugate gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Iteration, Map, Operator, Progress, Status
from precond.krylov.inner import column, norm, real_inner


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
        rho = real_inner(r, z)
        tiny = torch.finfo(rho.dtype).tiny
        vanished = torch.finfo(rho.dtype).eps ** 3 * rho.abs()  # below it a row is frozen: <r, P r> is quadratic in r
        first = True
        while True:
            active = rho > vanished
            q = operator.matvec(p)
            curvature = real_inner(p, q)
            if not bool((active & (curvature > 0)).all()):  # one question each step; the answers only when it matters
                if bool(((rho < 0) | ((rho == 0) & (norm(r) > 0))).any()):
                    yield Progress(norm(r), x.clone, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)
                    return
                flat = active & (curvature <= 0)
                if bool(flat.any()):
                    if first:
                        x = torch.where(column(flat), x + p, x)
                    yield Progress(norm(r), x.clone, failure=Status.FAILED_INDEFINITE_OPERATOR)
                    return
                if not bool((active | ~rho.isfinite()).any()):
                    yield Progress(norm(r), x.clone, solved=True)
                    return
            alpha = column(rho / curvature.clamp(min=tiny) * active)
            x.addcmul_(p, alpha)
            r.addcmul_(q, alpha, value=-1)
            yield Progress(norm(r), x.clone)
            z = precondition(r)
            rho, before = real_inner(r, z), rho
            beta = column(rho / before.clamp(min=tiny) * active)
            p.mul_(beta).add_(z)
            first = False
