"""LSMR for least-squares problems."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Iteration, Kernel, Look, Map, Need, Operator, Progress, Status
from precond.krylov.inner import column, norm, ratio
from precond.krylov.lsqr import dual, normalized
from precond.krylov.stretches import bidiagonalizing, scalar, stretch, vector


@dataclasses.dataclass(frozen=True)
class LSMRProgress(Progress):
    """Progress with estimates, for the identity as preconditioner (the paper's sections 5.2 and 5.3).

    Attributes:
        matrix_norm: ``||B_k||_F``, at most ``||A||_F``; shape ``[batch]``.
        condition: Largest over smallest diagonal entry of the second triangle, of the order of the condition number of
            ``A``; shape ``[batch]``.
        own: ``|zetabar|``, the recurrence's ``||A^H r||``; shape ``[batch]``.
    """

    matrix_norm: Tensor | None = None
    condition: Tensor | None = None
    own: Tensor | None = None


@final
@dataclasses.dataclass(frozen=True)
class LSMR(Iteration):
    """LSMR for ``min ||A x - b||`` with ``A`` of any shape: MINRES on the normal equations, done on ``A`` itself.

    On the Golub-Kahan bidiagonalization of LSQR, ``beta u = A v - alpha u``, ``alpha p = A^H u - beta p``, ``v = P p``,
    two rotations for each step::

        rho = hypot(alphabar, beta),           c = alphabar / rho,           s = beta / rho
        theta = s alpha,                       alphabar = c alpha
        thetabar = sbar rho,                   rhobar = hypot(cbar rho, theta)
        cbar = cbar rho / rhobar,              sbar = theta / rhobar
        zeta = cbar zetabar,                   zetabar = -sbar zetabar
        hbar = h - (thetabar rho / (rho_ rhobar_)) hbar,   x = x + (zeta / (rho rhobar)) hbar,   h = v - (theta / rho) h

    ``|zetabar|`` is ``||A^H r||`` in the norm of ``P``, which never grows. The vector ``A^H r`` itself is kept by
    ``g = sbar^2 g + cbar zetabar p``, so that its Euclidean norm is known with a preconditioner, too. The estimate of
    ``||r||`` is the paper's (section 5.1).

    (D. C.-L. Fong, M. A. Saunders, *LSMR: an iterative algorithm for sparse least-squares problems*, 2011,
    arXiv 1006.0758; preconditioned like `LSQR`.)

    Each row of ``b`` is a problem of its own; a row whose bidiagonalization has ended stays where it is.
    """

    needs: ClassVar[Need] = Need.OPERATOR | Need.ADJOINT
    square: ClassVar[bool] = False
    symmetric_preconditioner: ClassVar[bool] = True

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step."""
        eps = torch.finfo(b.dtype).eps
        x = x0.clone()
        u = b - operator.matvec(x) if bool(x.any()) else b.clone()
        u, beta = normalized(u, norm(u))
        p = operator.rmatvec(u)
        yield Progress(beta, x.clone, normal=beta * norm(p))
        v, p, alpha, indefinite = dual(precondition(p), p, eps)
        zetabar, alphabar, start = alpha * beta, alpha, alpha * beta
        one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
        rho, rhobar, cbar, sbar = one, one, one, zero
        g = p * column(zetabar)
        h, hbar = v.clone(), torch.zeros_like(x)
        norms = _Norms(beta, zero, one, zero, zero, zero, zero)
        squared, largest, smallest = alpha**2, zero, torch.full_like(alpha, torch.inf)
        first = True
        while not indefinite:
            u = operator.matvec(v).addcmul_(u, column(alpha), value=-1)
            u, beta = normalized(u, norm(u))
            p = operator.rmatvec(u).addcmul_(p, column(beta), value=-1)
            v, p, alpha, indefinite = dual(precondition(p), p, eps)

            rho_old, rhobar_old = rho, rhobar
            rho = torch.hypot(alphabar, beta)
            c, s = ratio(alphabar, rho), ratio(beta, rho)
            theta, alphabar = s * alpha, c * alpha
            thetabar, reduced = sbar * rho, cbar * rho
            rhobar = torch.hypot(reduced, theta)
            cbar, sbar = ratio(reduced, rhobar), ratio(theta, rhobar)
            zeta, zetabar = cbar * zetabar, -sbar * zetabar

            hbar.mul_(column(-ratio(thetabar * rho, rho_old * rhobar_old))).add_(h)
            x.addcmul_(hbar, column(ratio(zeta, rho * rhobar)))
            h.mul_(column(-ratio(theta, rho))).add_(v)
            g.mul_(column(sbar * sbar)).addcmul_(p, column(cbar * zetabar))
            norms = norms.next(c, s, thetabar, rhobar, zeta)
            matrix_norm = (squared + beta**2).sqrt()
            squared = matrix_norm**2 + alpha**2
            largest = torch.maximum(largest, rhobar_old)
            smallest = smallest if first else torch.minimum(smallest, rhobar_old)
            first = False
            condition = torch.maximum(largest, reduced.abs()) / torch.minimum(smallest, reduced.abs())
            if indefinite:
                break
            ended = bool(((alphabar == 0) | (zetabar.abs() <= eps**2 * start)).all())
            yield LSMRProgress(
                norms.residual, x.clone, normal=norm(g), solved=ended,
                matrix_norm=matrix_norm, condition=condition, own=zetabar.abs(),
            )  # fmt: skip
            if ended:
                return
        yield Progress(norms.residual, x.clone, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)

    def ahead(
        self, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step, which compiled loops make."""
        steps = bidiagonalizing("lsmr", kernel, operator, b, precondition, x0)
        known, at, count, solved = steps.numbers, steps.loops, 0, False
        x = vector(steps, at.X)[:, : x0.shape[1]]
        while not solved and (norms := stretch(steps, kernel, Look())):
            solved, normal = count > 0 and known[at.WHY] == at.SOLVED, scalar(known[at.NORMAL])
            if count == 0:
                yield Progress(scalar(norms[0]), x.clone, normal=normal)
            else:
                yield LSMRProgress(
                    scalar(norms[0]), x.clone, normal=normal, solved=solved, matrix_norm=scalar(known[at.MATRIX]),
                    condition=scalar(known[at.CONDITION]), own=scalar(known[at.OWN_NORM]),
                )  # fmt: skip
            count += 1
        if not solved:
            yield Progress(norm(vector(steps, 1)), x.clone, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)


@dataclasses.dataclass(frozen=True)
class _Norms:
    """The recurrence of ``||r||``: a third sequence of rotations turns the triangle of the second to a lower one.

    Attributes are the scalars of the paper's section 5.1: ``betadd`` and ``betad`` are entries of the rotated
    right-hand side, ``rhod`` the last diagonal entry, ``tau`` and ``theta`` those of the forward substitution.
    """

    betadd: Tensor
    betad: Tensor
    rhod: Tensor
    tau: Tensor
    theta: Tensor
    zeta: Tensor
    residual: Tensor

    def next(self, c: Tensor, s: Tensor, thetabar: Tensor, rhobar: Tensor, zeta: Tensor) -> _Norms:
        """Return the scalars after one more step."""
        betahat, betadd = c * self.betadd, -s * self.betadd
        rho_tilde = torch.hypot(self.rhod, thetabar)
        c_tilde, s_tilde = ratio(self.rhod, rho_tilde), ratio(thetabar, rho_tilde)
        theta, rhod = s_tilde * rhobar, c_tilde * rhobar
        betad = -s_tilde * self.betad + c_tilde * betahat
        tau = ratio(self.zeta - self.theta * self.tau, rho_tilde)
        last = ratio(zeta - theta * tau, rhod)
        return _Norms(betadd, betad, rhod, tau, theta, zeta, torch.hypot(betad - last, betadd))
