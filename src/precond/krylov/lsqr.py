"""LSQR for least-squares problems."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Iteration, Kernel, Look, Map, Need, Operator, Progress, Status
from precond.krylov.inner import column, norm, ratio, real_inner
from precond.krylov.stretches import bidiagonalizing, scalar, stretch, vector


@dataclasses.dataclass(frozen=True)
class Estimates:
    """What the bidiagonalization tells of the matrix so far, for the identity as preconditioner.

    Attributes:
        step: Iterations done.
        matrix_norm: ``||B_k||_F``, at most ``||A||_F``; shape ``[batch]``.
        condition: ``||B_k||_F ||R_k^-1||_F``, of the order of the condition number of ``A``; shape ``[batch]``.
        variances: The diagonal of ``V_k (B_k^H B_k)^-1 V_k^H``, at most that of ``(A^H A)^-1``; shape ``[batch, n]``.
    """

    step: int
    matrix_norm: Tensor
    condition: Tensor
    variances: Tensor


@dataclasses.dataclass(frozen=True)
class LSQRProgress(Progress):
    """Progress with estimates; ``None`` unless asked for, and at the start."""

    estimates: Estimates | None = None


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

    Attributes:
        estimates: Estimate norm and condition of the matrix and the variances of the solution on the way, as in the
            paper's section 5; one more vector.
    """

    estimates: bool = False

    needs: ClassVar[Need] = Need.OPERATOR | Need.ADJOINT
    square: ClassVar[bool] = False
    symmetric_preconditioner: ClassVar[bool] = True

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residual is ``phibar``."""
        eps = torch.finfo(b.dtype).eps
        x = x0.clone()
        u = b - operator.matvec(x) if bool(x.any()) else b.clone()
        u, phibar = normalized(u, norm(u))
        p = operator.rmatvec(u)
        yield LSQRProgress(phibar, x.clone, normal=phibar * norm(p))
        v, p, alpha, indefinite = dual(precondition(p), p, eps)
        w, rhobar = v.clone(), alpha
        nothing = torch.zeros_like(alpha)
        known = Estimates(0, nothing, nothing, torch.zeros_like(w).abs()) if self.estimates else None
        while not indefinite:
            u = operator.matvec(v).addcmul_(u, column(alpha), value=-1)
            u, beta = normalized(u, norm(u))
            p = operator.rmatvec(u).addcmul_(p, column(beta), value=-1)
            diagonal = alpha
            v, p, alpha, indefinite = dual(precondition(p), p, eps)

            rho = torch.hypot(rhobar, beta)
            c, s = ratio(rhobar, rho), ratio(beta, rho)
            theta, rhobar = s * alpha, -c * alpha
            phi, phibar = c * phibar, s * phibar
            x.addcmul_(w, column(ratio(phi, rho)))
            known = known and _estimated(known, w, rho, torch.hypot(diagonal, beta))
            w.mul_(column(-ratio(theta, rho))).add_(v)
            if indefinite:
                break
            ended = bool(((rhobar == 0) | (phibar == 0)).all())
            normal = phibar * rhobar.abs() * norm(p)
            yield LSQRProgress(phibar, x.clone, normal=normal, solved=ended, estimates=known)
            if ended:
                return
        yield Progress(phibar, x.clone, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)

    def ahead(
        self, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step, which compiled loops make."""
        steps = bidiagonalizing("lsqr", kernel, operator, b, precondition, x0)
        known, at, n = steps.numbers, steps.loops, x0.shape[1]
        known[at.ESTIMATES] = self.estimates
        x, variances, count, solved = vector(steps, at.X)[:, :n], vector(steps, at.VARIANCES)[:, :n], 0, False
        while not solved and (norms := stretch(steps, kernel, Look())):  # who looks may wait for either norm
            estimates = None
            if self.estimates and count:
                size, condition = scalar(known[at.MATRIX]), scalar(known[at.CONDITION])
                estimates = Estimates(count, size, condition, variances.clone())
            solved = count > 0 and known[at.WHY] == at.SOLVED
            normal = scalar(known[at.NORMAL])
            yield LSQRProgress(scalar(norms[0]), x.clone, normal=normal, solved=solved, estimates=estimates)
            count += 1
        if not solved:
            yield Progress(norm(vector(steps, 1)), x.clone, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)


def normalized(u: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``u / size`` (zero where ``size`` is zero) and ``size``."""
    return u * column(ratio(torch.ones_like(size), size)), size


def dual(v: Tensor, p: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Scale ``v = P p`` and ``p`` to ``<v, p> = 1``; also return ``alpha`` and whether ``P`` is not definite."""
    product, size = real_inner(v, p), norm(v) * norm(p)
    indefinite = bool(((product < -10 * eps * size) | ((size > 0) & (product == 0))).any())
    alpha = product.clamp(min=0).sqrt()
    scale = column(ratio(torch.ones_like(alpha), alpha))
    return v * scale, p * scale, alpha, indefinite


def _estimated(before: Estimates, w: Tensor, rho: Tensor, added: Tensor) -> Estimates:
    """Add a column: ``d = w / rho`` is that of ``V R^-1``, and ``added`` the norm of that of ``B``."""
    d = w * column(ratio(torch.ones_like(rho), rho))
    matrix_norm, variances = torch.hypot(before.matrix_norm, added), before.variances + d.abs() ** 2
    return Estimates(before.step + 1, matrix_norm, matrix_norm * variances.sum(1).sqrt(), variances)
