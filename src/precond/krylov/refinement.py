"""Least squares by a sketched preconditioner in two stages of refinement: as stable as a direct method."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Iteration, Map, Need, Operator, Progress, Status
from precond.krylov.inner import column, norm, ratio, real_inner

Bound = Callable[[Tensor], Tensor]
_patience = 20  # steps in which a momentum method must have made its steps ten times shorter


@final
@dataclasses.dataclass(frozen=True)
class Refinement(Iteration):
    """Iterative refinement of ``min ||A x - b||``: each stage solves ``min ||A d - r||`` for ``r = b - A x``.

    With ``P`` an inverse of ``A^H A`` up to a small constant, such as a sketch gives, a stage runs on the normal
    equations ``A^H A d = A^H r =: g`` either conjugate gradients or, with momentum ``beta``, the heavy ball::

        p = P g + <g, P g> / <g_, P g_> p        or        p = (1 - beta)^2 P g + beta p
        d = d + alpha p,  g = g - alpha A^H A p,           alpha = <g, P g> / ||A p||^2   or   1

    One product with ``A^H A`` a step, which reads ``A`` once. A stage before the last ends when a step is below
    ``10 u (||A|| ||x|| + 0.04 cond(A) ||r||)``, the accuracy that the normal equations allow; the last one when it is
    below ``4 u (||A|| ||x|| + ||r||)``, with ``u`` the unit of rounding. ``cond`` is estimated by the power method on
    ``P``; columns count as scaled to unit norm. (E. N. Epperly, M. Meier, Y. Nakatsukasa, *Fast randomized
    least-squares solvers can be just as accurate and stable as classical direct solvers*, 2024, arXiv 2406.03468:
    FOSSILS with momentum, SPIR with conjugate gradients.)

    The heavy ball needs the eigenvalues of ``P A^H A`` within ``(1 +- sqrt(beta))^-2``; a row whose steps do not
    shrink goes on by conjugate gradients, which need no bounds.

    Each row of ``b`` is a problem of its own; a row whose stage is over stays where it is.

    Attributes:
        momentum: ``beta``, the dimension of the problem over that of the sketch; ``None`` for conjugate gradients.
        stages: Stages of refinement.
        limit: Largest number of steps of a stage.
    """

    momentum: float | None = None
    stages: int = 2
    limit: int = 100

    needs: ClassVar[Need] = Need.OPERATOR | Need.ADJOINT
    square: ClassVar[bool] = False
    symmetric_preconditioner: ClassVar[bool] = True
    finishes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.stages < 1 or self.limit < 1:
            raise BadInputError(f"stages and limit must be positive, not {self.stages} and {self.limit}")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise BadInputError(f"momentum lies in [0, 1), not {self.momentum}")

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step of each stage."""
        x = x0.clone()
        scale = _Scale(operator, precondition, b)
        for stage in range(self.stages):
            last = stage == self.stages - 1
            g, residual = operator.normal(x, b)
            g = g.clone()  # written to, while the operator may use its memory again
            if stage == 0:
                yield Progress(residual, x.clone, normal=norm(g))
            d = torch.zeros_like(x)
            for step in self._stage(operator, precondition, g, d, residual, scale.bound(x, residual, last)):
                ends = step.over and (last or step.failure is not None)
                yield Progress(
                    step.residual, functools.partial(torch.add, x, d), normal=norm(g), failure=step.failure,
                    solved=ends and step.failure is None,
                )  # fmt: skip
                if ends:
                    return
                if step.over:
                    break
            x = x + d

    def _stage(
        self, operator: Operator, precondition: Map, g: Tensor, d: Tensor, residual: Tensor, bound: Bound
    ) -> Iterator[_Step]:
        """Solve ``A^H A d = g``, writing to ``d`` and ``g``."""
        squares = residual.square()
        z = precondition(g)
        rho, indefinite = _energy(g, z)
        if indefinite:
            yield _Step(residual, over=True, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)
            return
        damping = 1.0 if self.momentum is None else (1 - self.momentum) ** 2
        greedy = torch.full_like(rho, self.momentum is None, dtype=torch.bool)
        lengths = torch.where(greedy, torch.ones_like(rho), torch.full_like(rho, damping))
        p = z * column(lengths)
        over = rho == 0
        first = torch.zeros_like(rho)
        for step in range(self.limit):
            q, reach = operator.normal(p)
            alpha = torch.where(greedy, ratio(rho, reach.square()), torch.ones_like(rho))
            alpha = torch.where(over | (reach == 0), 0, alpha)
            squares = squares - 2 * alpha * real_inner(g, p) + (alpha * reach).square()
            d.addcmul_(p, column(alpha))
            g.addcmul_(q, column(alpha), value=-1)
            moved = alpha * reach
            over = over | (reach == 0) | (moved <= bound(d))
            if bool(over.all()) or step == self.limit - 1:
                yield _Step(squares.clamp(min=0).sqrt(), over=True)
                return
            yield _Step(squares.clamp(min=0).sqrt())
            z, before = precondition(g), rho
            rho, indefinite = _energy(g, z)
            if indefinite:
                yield _Step(squares.clamp(min=0).sqrt(), over=True, failure=Status.FAILED_INDEFINITE_PRECONDITIONER)
                return
            if self.momentum is None:
                p.mul_(column(ratio(rho, before))).add_(z)
                continue
            first = moved if step == 0 else first
            turns = ~greedy & ~over & ((moved > 4 * first) | ((step > 0 == step % _patience) & (moved > first / 10)))
            first = moved if step % _patience == 0 else first
            kept = torch.where(greedy, ratio(rho, before), torch.full_like(rho, self.momentum))
            kept = torch.where(turns, 0, kept)
            greedy = greedy | turns
            lengths = torch.where(greedy, 1, lengths)
            p = z * column(lengths) + p * column(kept)


@dataclasses.dataclass(frozen=True)
class _Step:
    """One step of a stage: the norm of the residual, whether the stage is over, and why it failed."""

    residual: Tensor
    over: bool = False
    failure: Status | None = None


class _Scale:
    """Sizes by which a step is measured, of the matrix with its columns scaled to unit norm where these are known."""

    def __init__(self, operator: Operator, precondition: Map, b: Tensor) -> None:
        self.unit = torch.finfo(b.dtype).eps / 2
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(1, operator.shape[1], generator=generator, dtype=torch.float64).to(b.device, b.dtype)
        v = v.expand(len(b), -1)
        columns = operator.column_norms()
        if columns is None:  # E ||A v||^2 = ||A||_F^2
            self.columns, self.size = torch.ones_like(v[0].real), norm(operator.matvec(v[:1])).expand(len(b))
        else:
            self.columns = torch.where(columns > 0, columns, 1).to(v.dtype).real
            self.size = torch.full_like(norm(v), operator.shape[1] ** 0.5)
        largest = self.size.new_zeros(len(b))
        for _ in range(8):
            v = v * column(ratio(torch.ones_like(largest), norm(v)))
            v = self.columns * precondition(self.columns * v)
            largest = norm(v)
        self.condition = torch.nan_to_num(self.size * largest.sqrt())

    def bound(self, x: Tensor, residual: Tensor, last: bool) -> Bound:
        """Return how small a step must be for a stage to be over, as a function of the correction so far."""

        def small(d: Tensor) -> Tensor:
            size = self.size * norm(self.columns * (x + d))
            if last:
                return 4 * self.unit * (size + residual)
            return 10 * self.unit * (size + 0.04 * self.condition * residual)

        return small


def _energy(g: Tensor, z: Tensor) -> tuple[Tensor, bool]:
    """Return ``<g, P g>`` of each row, and whether some product is negative by more than rounding."""
    product, size = real_inner(g, z), norm(g) * norm(z)
    indefinite = bool((product < -10 * torch.finfo(product.dtype).eps * size).any())
    return product.clamp(min=0), indefinite
