"""Preconditioned conjugate gradients."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from precond.core import Iteration, Kernel, Look, Map, Operator, Progress, Status
from precond.krylov.inner import column, norm, numbers
from precond.krylov.stretches import begun, progressing, vector
from precond.math.krylov.vectors import Array, dots, forward, rows, turn


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
    side_by_side: ClassVar[bool] = True

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residual is the recurrence's ``||r_k||``."""
        return _iterations(operator, precondition, x0.clone(), b.clone(), torch.empty_like(b))

    def ahead(
        self, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Yield the progress when ``look`` says so; steps between are made by one compiled call."""
        steps = begun("conjugate", kernel, operator, b, precondition, x0)
        x, r, p = (vector(steps, row) for row in (0, 1, 2))

        def ending() -> Progress:
            rho, floor, curvature, made = np.split(steps.numbers[steps.loops.RHO :][:4], 4)
            stop = _examine(x, r, p, rho, curvature, rho > floor, not made.any())
            return stop or Progress(torch.full((1,), math.nan), x.clone)

        return progressing(steps, kernel, look, ending)


def _iterations(operator: Operator, precondition: Map, x: Tensor, r: Tensor, p: Tensor) -> Iterator[Progress]:
    if bool(x.any()):
        r -= operator.matvec(x)
    yield Progress(norm(r), x.clone)
    z = precondition(r)
    p.copy_(z)
    here, left, along = rows(x), rows(r), rows(p)  # the same memory, for updates in place
    rho = dots(left, rows(z))
    floor, curvature = torch.finfo(x.dtype).eps ** 3 * abs(rho), np.empty_like(rho)  # a row below it is frozen
    first = True
    while True:
        q = rows(operator.matvec(p))
        norms = forward(here, left, along, q, rho, floor, curvature)
        if norms is None:
            stop = _examine(x, r, p, rho, curvature, rho > floor, first)
            if stop is not None:
                yield stop
                return
            norms = forward(here, left, along, q, rho, floor, curvature, force=True)
            assert norms is not None
        yield Progress(numbers(norms, r), x.clone)
        z = precondition(r)
        turn(along, rows(z), rho, norms * norms if z is r else dots(left, rows(z)), floor)
        first = False


def _examine(
    x: Tensor, r: Tensor, p: Tensor, rho: Array, curvature: Array, active: Array, first: bool
) -> Progress | None:
    """Return why the iteration ends where a row is done or meets no positive curvature; ``None`` if it goes on."""
    if ((rho < 0) | ((rho == 0) & (norm(r).cpu().numpy() > 0))).any():
        return Progress(norm(r), x.clone, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)
    flat = active & (curvature <= 0)
    if flat.any():
        if first:
            x = torch.where(column(torch.from_numpy(flat).to(x.device)), x + p, x)
        return Progress(norm(r), x.clone, failure=Status.FAILED_INDEFINITE_OPERATOR)
    if not (active | ~np.isfinite(rho)).any():
        return Progress(norm(r), x.clone, solved=True)
    return None
