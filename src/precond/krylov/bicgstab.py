"""Stabilized bi-conjugate gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from precond.core import Iteration, Map, Operator, Progress, Status
from precond.krylov.inner import column, inner, norm, ratio


@final
@dataclasses.dataclass(frozen=True)
class BiCGStab(Iteration):
    """BiCGStab for any square ``A``, preconditioned from the right, with seven vectors.

    With ``r_0 = b - A x_0``, shadow residual ``s = r_0`` and ``p_0 = r_0``::

        alpha = <s, r> / <s, A P p>,            h = r - alpha A P p
        omega = <A P h, h> / <A P h, A P h>     minimizes  || h - omega A P h ||
        x     = x + alpha P p + omega P h,      r+ = h - omega A P h
        beta  = (<s, r+> / <s, r>) (alpha / omega)
        p     = r+ + beta (p - omega A P p)

    (H. A. van der Vorst, *Bi-CGSTAB: a fast and smoothly converging variant of Bi-CG for the solution of nonsymmetric
    linear systems*, 1992.)

    Each row of ``b`` is a system of its own; a row whose residual has vanished stays where it is. When ``<s, r>``,
    ``<s, A P p>`` or ``omega`` vanishes while the residual does not, the process of that row begins again from where it
    is, with its residual as the new shadow; ``FAILED_BREAKDOWN`` when that does not help at once.
    """

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residual is the recurrence's ``||r||``."""
        eps = torch.finfo(b.dtype).eps
        x = x0.clone()
        r = b - operator.matvec(x) if bool(x.any()) else b.clone()
        yield Progress(norm(r), x.clone)
        shadow, p = r.clone(), r.clone()
        rho, vanished = inner(shadow, r), eps**2 * norm(r)
        fresh = torch.ones_like(rho, dtype=torch.bool)
        while True:
            active = norm(r) > vanished
            if not bool(active.any()):
                yield Progress(norm(r), x.clone, solved=True)
                return
            p_hat = precondition(p)
            v = operator.matvec(p_hat)
            curvature = inner(shadow, v)
            broken = active & ~(curvature.abs() > eps**2 * norm(shadow) * norm(v))
            alpha = torch.where(active & ~broken, ratio(rho, curvature), 0)
            h = r.addcmul(v, column(alpha), value=-1)
            h_hat = precondition(h)
            t = operator.matvec(h_hat)
            omega = torch.where(active, ratio(inner(t, h), inner(t, t)), 0)
            x.addcmul_(p_hat, column(alpha)).addcmul_(h_hat, column(omega))
            r = h.addcmul_(t, column(omega), value=-1)
            yield Progress(norm(r), x.clone)

            rho, before = inner(shadow, r), rho
            beta = ratio(rho, before) * ratio(alpha, omega)
            broken = broken | ~(rho.abs() > eps * norm(shadow) * norm(r)) | (omega == 0) | ~beta.isfinite()
            broken = broken & (norm(r) > vanished)
            if bool((broken & fresh & (omega == 0)).any()):
                yield Progress(norm(r), x.clone, failure=Status.FAILED_BREAKDOWN)
                return
            fresh = broken
            p = p.addcmul(v, column(omega), value=-1).mul_(column(beta)).add_(r)
            if bool(broken.any()):
                p = torch.where(column(broken), r, p)
                shadow = torch.where(column(broken), r, shadow)
                rho = torch.where(broken, inner(r, r), rho)
