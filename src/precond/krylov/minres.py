"""Preconditioned minimum residuals for symmetric systems, definite or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from precond.core import Iteration, Kernel, Look, Map, Operator, Progress, Status
from precond.krylov.inner import Kept, column, norm, numbers
from precond.krylov.stretches import begun, progressing, vector
from precond.math.krylov.minimum_residual import Rotations, advance, lanczos
from precond.math.krylov.vectors import Array, dots, rows


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
        w, w_old = torch.zeros_like(r), torch.zeros_like(r)
        here, left = rows(x), rows(r)  # the same memory, for updates in place
        z = precondition(v)
        gamma, indefinite = _dual_norm(z, v, eps)
        gamma_old = np.ones_like(gamma)
        rotations, best, kept = Rotations(gamma, eps), None, Kept()
        while not indefinite:
            # Lanczos; v and v_old are kept as gamma_j v_j, z as gamma_j z_j
            z = kept(z)
            image = rows(z)
            delta = lanczos(image, rows(operator.matvec(z)), rows(v), rows(v_old), gamma, gamma_old)
            v_old, v = v, v_old
            z = precondition(v)
            gamma_next, indefinite = _dual_norm(z, v, eps)
            stuck, least, solved = rotations.apply(delta, gamma, gamma_next)
            if stuck:
                least_x = x if best is None else torch.where(_mask(rotations.kept, x), best, x)
                yield Progress(norm(r), least_x.clone, failure=Status.FAILED_BREAKDOWN)
                return
            if least:
                best = torch.where(_mask(rotations.less, x), x, x if best is None else best)
            norms = advance(here, left, rows(w_old), rows(w), image, rows(v), rotations.factors)
            w_old, w = w, w_old
            gamma_old, gamma = gamma, gamma_next
            if indefinite:
                break
            yield Progress(numbers(norms, r), x.clone, solved=solved)
            if solved:
                return
        yield Progress(norm(r), x.clone, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)

    def ahead(
        self, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Yield the progress when ``look`` says so."""
        steps = begun("minimum_residual", kernel, operator, b, precondition, x0)
        x, r = vector(steps, 0), vector(steps, 1)

        def ending() -> Progress:
            why = int(steps.numbers[steps.loops.WHY])
            return Progress(norm(r), x.clone, failure=_endings.get(why), solved=why not in _endings)

        return progressing(steps, kernel, look, ending)


_endings = {1: Status.FAILED_INDEFINITE_PRECONDITIONER, 2: Status.FAILED_BREAKDOWN}


def _mask(chosen: Array, like: Tensor) -> Tensor:
    """Return rows as a column that selects them."""
    return column(torch.from_numpy(chosen).to(like.device))


def _dual_norm(z: Tensor, v: Tensor, eps: float) -> tuple[Array, bool]:
    """Return ``sqrt(<z, v>)`` of each row, and whether some product is negative by more than rounding."""
    product = dots(rows(z), rows(v))
    if (product > 0).all():
        return np.sqrt(product), False
    size = (norm(z) * norm(v)).double().cpu().numpy()
    indefinite = bool(((product < -10 * eps * size) | ((size > 0) & (product == 0))).any())
    return np.sqrt(np.maximum(product, 0)), indefinite
