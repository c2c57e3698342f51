"""LSQR for least-squares problems."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Iteration, Map, Need, Operator, Progress, Status
from precond.krylov.inner import column, norm, ratio, real_inner


@final
@dataclasses.dataclass(frozen=True)
class LSQR(Iteration):
    """LSQR for ``min ||A x - b||`` with ``A`` of any shape: CG on the normal equations, done on ``A`` itself.

    Golub-Kahan bidiagonalization ``beta u = A v - alpha u``, ``alpha p = A^H u - beta p`` with ``v = P p``, and one
    rotation for each step::

        rho = sqrt(rhobar^2 + beta^2),  c = rhobar / rho,  s = beta / rho
        theta = s alpha,  rhobar = -c alpha,  phi = c phibar,  phibar = s phibar
        x = x + (phi / rho) w,          w = v - (theta / rho) w
        ||r|| = phibar,                 ||A^H r|| = phibar alpha |c| ||p||

    The preconditioner approximates ``(A^H A)^-1``. It enters through the inner product ``<p, P p>`` and needs no
    factor, as in S. R. Arridge, M. M. Betcke, L. Harhanen, *Iterated preconditioned LSQR method for inverse problems on
    unstructured grids*, 2014. Started at zero, LSQR finds the solution of least norm (in the norm of ``P^-1``).

    (C. C. Paige, M. A. Saunders, *LSQR: an algorithm for sparse linear equations and sparse least squares*, 1982.)

    Each row of ``b`` is a problem of its own; a row whose bidiagonalization has ended stays where it is.
    """

    needs: ClassVar[Need] = Need.OPERATOR | Need.ADJOINT
    square: ClassVar[bool] = False
    symmetric_preconditioner: ClassVar[bool] = True

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residual is ``phibar``."""
        eps = torch.finfo(b.dtype).eps
        x = x0.clone()
        u = b - operator.matvec(x) if bool(x.any()) else b.clone()
        u, phibar = _normalized(u, norm(u))
        p = operator.rmatvec(u)
        yield Progress(phibar, x.clone, normal=phibar * norm(p))
        v, p, alpha, indefinite = _dual(precondition(p), p, eps)
        w, rhobar = v.clone(), alpha
        while not indefinite:
            u = operator.matvec(v).addcmul_(u, column(alpha), value=-1)
            u, beta = _normalized(u, norm(u))
            p = operator.rmatvec(u).addcmul_(p, column(beta), value=-1)
            v, p, alpha, indefinite = _dual(precondition(p), p, eps)

            rho = torch.hypot(rhobar, beta)
            c, s = ratio(rhobar, rho), ratio(beta, rho)
            theta, rhobar = s * alpha, -c * alpha
            phi, phibar = c * phibar, s * phibar
            x.addcmul_(w, column(ratio(phi, rho)))
            w.mul_(column(-ratio(theta, rho))).add_(v)
            if indefinite:
                break
            ended = bool(((rhobar == 0) | (phibar == 0)).all())
            yield Progress(phibar, x.clone, normal=phibar * rhobar.abs() * norm(p), solved=ended)
            if ended:
                return
        yield Progress(phibar, x.clone, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)


def _normalized(u: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``u / size`` (zero where ``size`` is zero) and ``size``."""
    return u * column(ratio(torch.ones_like(size), size)), size


def _dual(v: Tensor, p: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Scale ``v = P p`` and ``p`` to ``<v, p> = 1``; also return ``alpha`` and whether ``P`` is not definite."""
    product, size = real_inner(v, p), norm(v) * norm(p)
    indefinite = bool(((product < -10 * eps * size) | ((size > 0) & (product == 0))).any())
    alpha = product.clamp(min=0).sqrt()
    scale = column(ratio(torch.ones_like(alpha), alpha))
    return v * scale, p * scale, alpha, indefinite
