"""Preconditioned minimum residuals for symmetric systems, definite or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Iteration, Map, Operator, Progress, Status
from precond.krylov.inner import column, norm, ratio, real_inner


@final
@dataclasses.dataclass(frozen=True)
class MINRES(Iteration):
    """Minimum residuals for ``A x = b`` with ``A`` symmetric (Hermitian) and ``P`` positive definite.

    The Lanczos process builds ``z_j = P v_j`` with ``<z_i, v_j> = delta_ij`` and a tridiagonal ``T``::

        gamma_{j+1} v_{j+1} = A z_j - delta_j v_j - gamma_j v_{j-1},      delta_j = <z_j, A z_j>

    and Givens rotations ``(c_j, s_j)`` reduce ``T`` to a triangle with three diagonals ``alpha_1, alpha_2, alpha_3``::

        w_j = (z_j - alpha_3 w_{j-2} - alpha_2 w_{j-1}) / alpha_1
        x_j = x_{j-1} + c_j eta_j w_j,            eta_{j+1} = -s_j eta_j
        r_j = s_j^2 r_{j-1} + c_j eta_{j+1} v_{j+1}

    ``|eta|`` is the minimized residual in the norm of ``P``; the recurrence of ``r`` gives the Euclidean norm, which is
    what users ask for, at the price of one more vector. (C. C. Paige, M. A. Saunders, *Solution of sparse indefinite
    systems of linear equations*, 1975; preconditioned as in H. Elman, D. Silvester, A. Wathen, *Finite Elements and
    Fast Iterative Solvers*, 2005, algorithm 6.1.)

    Each row of ``b`` is a system of its own; a row whose Krylov space is exhausted stays where it is. When ``A`` is
    singular and ``b`` not in its range, a pivot ``alpha_1`` vanishes, or ``||A r||`` falls far below ``||A|| ||r||``
    and then rises while ``r`` stays: the iteration ends with ``FAILED_BREAKDOWN`` at the iterate of the least
    ``||A r||``, which minimizes the residual, in the norm of ``P``.
    """

    symmetric_operator: ClassVar[bool] = True
    symmetric_preconditioner: ClassVar[bool] = True

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residual is the recurrence's ``||r_j||``."""
        eps = torch.finfo(b.dtype).eps
        x = x0.clone()
        r = b - operator.matvec(x) if bool(x.any()) else b.clone()
        yield Progress(norm(r), x.clone)

        v, v_old = r.clone(), torch.zeros_like(r)
        z = precondition(v)
        gamma, indefinite = _dual_norm(z, v, eps)
        eta, gamma_old = gamma.clone(), torch.ones_like(gamma)
        negligible, largest = eps * eta, torch.zeros_like(gamma)
        c, c_old = torch.ones_like(gamma), torch.ones_like(gamma)
        s, s_old = torch.zeros_like(gamma), torch.zeros_like(gamma)
        w, w_old = torch.zeros_like(r), torch.zeros_like(r)
        least = _Least(eta, eps)
        while not indefinite:
            # Lanczos; v and v_old are kept as gamma_j v_j
            z = z * column(ratio(torch.ones_like(gamma), gamma))
            q = operator.matvec(z)
            delta = real_inner(z, q)
            q = q.addcmul(v, column(ratio(delta, gamma)), value=-1)
            q.addcmul_(v_old, column(ratio(gamma, gamma_old)), value=-1)
            v_old, v = v, q
            z_next = precondition(v)
            gamma_next, indefinite = _dual_norm(z_next, v, eps)
            exhausted = (gamma_next <= eps * (delta.abs() + gamma)) | (eta.abs() <= negligible)
            gamma_next = torch.where(exhausted, 0, gamma_next)

            # the new column of the triangle
            alpha_0 = c * delta - c_old * s * gamma
            alpha_1 = torch.hypot(alpha_0, gamma_next)
            alpha_2 = s * delta + c_old * c * gamma
            alpha_3 = s_old * gamma
            slope = torch.hypot(alpha_0, c * gamma_next)  # times |eta|, the norm of A r
            c_old, s_old = c, s
            c, s = ratio(alpha_0, alpha_1), ratio(gamma_next, alpha_1)
            largest = torch.maximum(largest, alpha_1)
            singular = (alpha_1 <= 10 * eps * largest) & (eta.abs() > negligible)
            if bool(singular.any()) or least.left_behind(slope, eta):
                yield Progress(norm(r), least.solution(x), failure=Status.FAILED_BREAKDOWN)
                return
            least.see(slope, eta, largest, x)

            w_next = z.addcmul(w_old, column(alpha_3), value=-1).addcmul_(w, column(alpha_2), value=-1)
            w_next.mul_(column(ratio(torch.ones_like(alpha_1), alpha_1)))
            w_old, w = w, w_next
            x.addcmul_(w, column(c * eta))
            eta = -s * eta
            r.mul_(column(s * s)).addcmul_(v, column(ratio(c * eta, gamma_next)))
            gamma_old, gamma, z = gamma, gamma_next, z_next
            if indefinite:
                break
            solved = bool(exhausted.all())
            yield Progress(norm(r), x.clone, solved=solved)
            if solved:
                return
        yield Progress(norm(r), x.clone, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)


class _Least:
    """The iterate at which ``A r`` was least, for rows whose residual cannot vanish.

    Args:
        eta: Residual norms, shape ``[batch]``.
        eps: Rounding.
    """

    def __init__(self, eta: Tensor, eps: float) -> None:
        self.small = 10 * eps**0.5
        self.slope, self.eta = torch.full_like(eta, torch.inf), eta.abs()
        self.x: Tensor | None = None

    def see(self, slope: Tensor, eta: Tensor, largest: Tensor, x: Tensor) -> None:
        """Keep the iterate of each row whose slope is small, and less than it was."""
        less = (slope <= self.small * largest) & (slope < self.slope)
        if bool(less.any()):
            self.slope = torch.where(less, slope, self.slope)
            self.eta = torch.where(less, eta.abs(), self.eta)
            self.x = torch.where(column(less), x, x if self.x is None else self.x)

    def left_behind(self, slope: Tensor, eta: Tensor) -> bool:
        """Whether the slope of some row rose from its least by far while the residual stayed."""
        if self.x is None:
            return False
        return bool(((slope > 100 * self.slope) & (eta.abs() > 0.99 * self.eta)).any())

    def solution(self, x: Tensor) -> Callable[[], Tensor]:
        """Return a function that returns the iterates kept, or the current ones where none was."""
        kept = x if self.x is None else torch.where(column(torch.isfinite(self.slope)), self.x, x)
        return kept.clone


def _dual_norm(z: Tensor, v: Tensor, eps: float) -> tuple[Tensor, bool]:
    """Return ``sqrt(<z, v>)`` of each row, and whether some product is negative by more than rounding."""
    product = real_inner(z, v)
    size = norm(z) * norm(v)
    indefinite = bool(((product < -10 * eps * size) | ((size > 0) & (product == 0))).any())
    return product.clamp(min=0).sqrt(), indefinite
