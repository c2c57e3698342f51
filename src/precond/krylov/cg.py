"""Preconditioned conjugate gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from precond.core import Iteration, Kernel, Look, Map, Operator, Progress, Status
from precond.krylov.inner import column, norm, numbers
from precond.math.conjugate import ConjugateSteps
from precond.math.vectors import Array, dots, forward, rows, turn

_many = 2**16  # unknowns from which on calls cost nothing, and what they do may be shared


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
        x, r, p = x0.clone(), b.clone(), torch.empty_like(b)
        return _iterations(operator, precondition, _Moving(x, r, p))

    def ahead(
        self, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Yield the progress when ``look`` says so; steps between are made by one compiled call."""
        if type(self).iterate is not CG.iterate or b.shape[1] >= _many:  # somebody else's, or worth two threads
            return self.iterate(operator, b, precondition, x0)
        steps = ConjugateSteps(kernel.matrix, kernel.sweeps, b.shape[1])
        x, r, p = (torch.from_numpy(steps.vectors[k : k + 1]) for k in range(3))
        x.copy_(x0)
        r.copy_(b)

        residual, spent = steps.vectors[1], 0 if kernel.sweeps is None else 1
        apply = kernel.apply or (lambda _: rows(precondition(r))[0])

        def stretch() -> list[float]:
            waits = steps.waits
            norms = steps.run(look.level, look.steps, lambda: apply(residual))
            kernel.spend(len(norms), spent * max(0, len(norms) - (not waits)))
            return norms

        return _iterations(operator, precondition, _Moving(x, r, p, *steps.scalars), stretch)


@dataclasses.dataclass
class _Moving:
    """What the steps move: ``x``, ``r``, ``p``, and ``<r, P r>`` with its floor and ``<p, A p>``, shape ``[batch]``."""

    x: Tensor
    r: Tensor
    p: Tensor
    rho: Array | None = None
    floor: Array | None = None
    curvature: Array | None = None


def _iterations(
    operator: Operator, precondition: Map, moving: _Moving, stretch: Callable[[], list[float]] = list
) -> Iterator[Progress]:
    """Yield the progress; ``stretch`` makes steps and returns their residuals, none where it must not go on."""
    x, r, p = moving.x, moving.r, moving.p
    if bool(x.any()):
        r -= operator.matvec(x)
    yield Progress(norm(r), x.clone)
    z = precondition(r)
    p.copy_(z)
    here, left, along = rows(x), rows(r), rows(p)  # the same memory, for updates in place
    product = dots(left, rows(z))
    rho, floor, curvature = (
        np.empty_like(product) if given is None else given for given in (moving.rho, moving.floor, moving.curvature)
    )
    rho[:], floor[:] = product, torch.finfo(x.dtype).eps ** 3 * abs(product)  # a row below it is frozen
    first = True
    while True:
        if made := stretch():
            first = False
            yield Progress(torch.tensor(made[-1:], dtype=torch.float64), x.clone, skipped=made[:-1])
            continue
        q = rows(operator.matvec(p))
        norms = forward(here, left, along, q, rho, floor, curvature)
        if norms is None:
            stop = _examine(x, r, p, rho, curvature, rho > floor, first)
            if stop is not None:
                yield stop
                return
            norms = forward(here, left, along, q, rho, floor, curvature, force=True)
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
