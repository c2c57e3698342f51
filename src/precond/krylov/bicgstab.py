"""Stabilized bi-conjugate gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from torch import Tensor

from precond.core import Iteration, Kernel, Look, Map, Operator, Progress, Status
from precond.krylov.inner import Kept, norm, numbers
from precond.krylov.stretches import begun, progressing, vector
from precond.math.krylov.vectors import Array, inners, move, redirect, rows, subtract


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
        solution = x0.clone()
        residual = b - operator.matvec(solution) if bool(solution.any()) else b.clone()
        yield Progress(norm(residual), solution.clone)
        direction = residual.clone()
        x, r, p = rows(solution), rows(residual), rows(direction)  # the same memory, for updates in place
        shadow = rows(residual.clone())
        rho, size = inners(r, r)
        shadow_size, vanished = size.copy(), eps**2 * size
        fresh = np.ones(len(b), dtype=bool)
        kept, images_kept = Kept(), Kept()
        while True:
            active = size > vanished
            if not active.any():
                yield Progress(numbers(size, residual), solution.clone, solved=True)
                return
            p_hat = kept(precondition(direction))
            v = rows(images_kept(operator.matvec(p_hat)))
            curvature, images = inners(shadow, v)
            broken = active & ~(abs(curvature) > eps**2 * shadow_size * images)
            alpha = _ratio(rho, curvature, active & ~broken)
            subtract(r, alpha, v)  # r is h now
            h_hat = kept(precondition(residual))
            t = rows(images_kept(operator.matvec(h_hat)))
            product, images = inners(r, t)
            omega = _ratio(product.conj(), images * images, active)
            before = rho
            rho, size = move(x, r, alpha, rows(p_hat), omega, rows(h_hat), t, shadow)
            yield Progress(numbers(size, residual), solution.clone)

            ratios = _ratio(rho, before) * _ratio(alpha, omega)
            broken |= ~(abs(rho) > eps * shadow_size * size) | (omega == 0) | ~np.isfinite(ratios)
            broken &= size > vanished
            if (broken & fresh & (omega == 0)).any():
                yield Progress(numbers(size, residual), solution.clone, failure=Status.FAILED_BREAKDOWN)
                return
            fresh = broken
            if broken.any():
                again = torch.from_numpy(broken).to(b.device)[:, None]
                torch.where(again, residual, torch.as_tensor(shadow), out=torch.as_tensor(shadow))
                ratios = np.where(broken, 0, ratios)
                rho, shadow_size = np.where(broken, size * size, rho), np.where(broken, size, shadow_size)
            redirect(p, r, ratios, omega, v)

    def ahead(
        self, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Yield the progress when ``look`` says so, in the middle of a step where ``h`` is small enough for it."""
        steps = begun("stabilized", kernel, operator, b, precondition, x0)
        x, r = vector(steps, 0), vector(steps, 1)

        def ending() -> Progress:
            failed = bool(steps.numbers[steps.loops.FAILED])
            return Progress(norm(r), x.clone, failure=Status.FAILED_BREAKDOWN if failed else None, solved=not failed)

        return progressing(steps, kernel, look, ending)


def _ratio(a: Array, b: Array, where: Array | bool = True) -> Array:
    """Return ``a / b``, and zero where ``b`` is zero or a row is left out."""
    where = (b != 0) & where
    with np.errstate(all="ignore"):
        return np.divide(a, b, out=np.zeros(len(a), np.result_type(a, b)), where=where)
