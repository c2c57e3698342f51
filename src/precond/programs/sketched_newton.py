"""Newton's method on the exact augmented Lagrangian, with inexact and even random inner solves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import final

import torch
from torch import Tensor

from precond.core import Iterate, Iteration, Operator, Program, ProgramIteration, Progress, Site, Status
from precond.core.materialize import materialize
from precond.krylov.dense import Dense
from precond.math.inertia import equilibrate
from precond.operators.dense import DenseOperator
from precond.operators.kkt import KKT, assemble
from precond.programs.accuracy import Accuracy, System, Tested
from precond.programs.curvature import Curvature, FrobeniusShift
from precond.programs.merit import ExactLagrangian, Slopes
from precond.programs.multipliers import least_squares_multipliers

LARGEST, LEAST = 1e8, 1e-8
"""Penalties beyond which a step is taken as it is."""


@final
@dataclasses.dataclass(frozen=True)
class SketchedNewton(ProgramIteration):
    """Propose a step by any inner solver, accept it by the descent of the exact augmented Lagrangian.

    In each iteration the Newton system ``[[B, J'], [J, 0]] z = -(grad_x L, c)`` is solved by ``inner`` until the
    residual is within the bound of ``accuracy`` *and* ``z`` is a descent direction of the merit,
    ``<grad M, z> <= -eta2/2 ||grad L||^2``; where it is not, the bound is tightened or the penalties change, and
    the inner solve goes on from where it is. Then ``x`` and ``lambda`` move together by Armijo's rule on the merit.

    Attributes:
        inner: What solves the Newton system.
        accuracy: How accurately.
        curvature: How the Hessian is made positive definite on the tangent space.
        eta1: First penalty on the constraints.
        eta2: First penalty on the gradient of the Lagrangian.
        growth: ``nu``: ``eta1`` is multiplied by its square and ``eta2`` divided by it.
        armijo: Sufficient decrease.
        singular: Least acceptable eigenvalue of ``J J'``.
        inner_limit: Limit on inner iterations of one system. Where matrices are dense, a system that has not been
            solved well enough by then is factorized: next to a singular one, random projections hardly converge.
        precondition: Makes a positive definite preconditioner of the Newton system from its operator.
        equilibrate: Solve ``D Gamma D (D^-1 z) = -D grad L`` with ``D`` such that the rows have entries of at most 1,
            where the matrix is dense; residuals are those of the system itself.
    """

    inner: Iteration
    accuracy: Accuracy = Tested()
    curvature: Curvature = FrobeniusShift()
    eta1: float = 1.0
    eta2: float = 0.1
    growth: float = 1.5
    armijo: float = 0.1
    singular: float = 1e-2
    inner_limit: int = 2_000
    precondition: Callable[[KKT], Callable[[Tensor], Tensor]] | None = None
    equilibrate: bool = True

    def iterate(self, program: Program, x0: Tensor, tolerance: float) -> Iterator[Iterate]:
        """Yield the iterates; facts: ``inner`` iterations, ``step``, ``eta1``, ``eta2``, ``shift``."""
        site = program.site(x0)
        multipliers = least_squares_multipliers(site)
        merit, state = ExactLagrangian(self.eta1, self.eta2), None
        yield Iterate(site, multipliers)
        while True:
            hessian = program.hessian(site, multipliers)
            right = torch.cat([site.stationarity(multipliers), site.constraints])
            system, hessian, jacobian = self._examine(site, hessian, float(right.norm()))
            if system is None:
                yield Iterate(site, multipliers, failure=Status.FAILED_SINGULAR_JACOBIAN)
                return
            slopes = Slopes.at(site, multipliers, hessian)
            state = self.accuracy.begin(system, merit, state)
            z, merit, state, inner = self._direction(KKT(hessian, jacobian, shift=system.shift), right, slopes, system,
                                                     merit, state)  # fmt: skip
            program.work.inner += inner
            program.work.factorizations += isinstance(self.inner, Dense)
            step, found = self._search(program, site, multipliers, z, merit, slopes)
            facts = {"inner": inner, "step": step, "eta1": merit.eta1, "eta2": merit.eta2, "shift": system.shift}
            if found is None:
                yield Iterate(site, multipliers, facts=facts, failure=Status.FAILED_LINE_SEARCH)
                return
            site, multipliers = found
            yield Iterate(site, multipliers, facts=facts)

    def _examine(self, site: Site, hessian: Operator, size: float) -> tuple[System | None, Operator, Operator]:
        """Return what is known of the Newton system, and its blocks; no system where the Jacobian is singular."""
        if not self.curvature.dense and not self.accuracy.dense:
            return System(size), hessian, site.jacobian
        h, g = materialize(hessian), materialize(site.jacobian)
        h = (h + h.mT) / 2
        if len(g) and not float(torch.linalg.eigvalsh(g @ g.mT)[0]) >= self.singular:
            return None, hessian, site.jacobian
        system = System(size, h, g, self.curvature.shift(h, g))
        return system, DenseOperator(h, symmetric=True), DenseOperator(g, symmetric=False)

    def _direction(
        self, kkt: KKT, right: Tensor, slopes: Slopes, system: System, merit: ExactLagrangian, state: float
    ) -> tuple[Tensor, ExactLagrangian, float, int]:
        """Let the inner solver propose until the merit accepts; return the step with the penalties it took."""
        precondition = self.precondition(kkt) if self.precondition is not None else _same
        scale, scaled = self._equilibrated(kkt, system)
        largest = float(scale.max()) if scale.numel() else 1.0
        bound = self.accuracy.bound(system, state) * system.size
        progress: Progress | None = None
        for count, progress in enumerate(self._progress(scaled, -(scale * right)[None], precondition, system)):
            at_last = progress.solved or progress.failure is not None
            while at_last or float(progress.residual) <= largest * bound:
                z = scale * progress.solution()[0]
                if not at_last and self.equilibrate and float((kkt.matvec(z[None])[0] + right).norm()) > bound:
                    break
                slope = float(slopes.gradient(merit) @ z)
                if slope <= -merit.eta2 / 2 * system.size**2 or merit.eta1 > LARGEST or merit.eta2 < LEAST:
                    return z, merit, state, count
                wider = ExactLagrangian(merit.eta1 * self.growth**2, merit.eta2 / self.growth)
                state, change = self.accuracy.tighten(system, state, wider)
                merit = wider if change or at_last else merit
                bound = self.accuracy.bound(system, state) * system.size
        assert progress is not None, "an iteration yields the progress at its start"
        return scale * progress.solution()[0], merit, state, count

    def _progress(
        self, operator: Operator, b: Tensor, precondition: Callable[[Tensor], Tensor], system: System
    ) -> Iterator[Progress]:
        """Yield the progress of the inner solver, at its limit that of a factorization."""
        for count, progress in enumerate(self.inner.iterate(operator, b, precondition, torch.zeros_like(b))):
            limited = count >= self.inner_limit
            if limited and system.hessian is None:
                yield dataclasses.replace(progress, solved=True)
                return
            if limited:
                break
            yield progress
        else:
            return
        for exact in Dense().iterate(operator, b, _same, progress.solution()):
            yield exact if exact.failure is None else dataclasses.replace(exact, failure=None, solved=True)

    def _equilibrated(self, kkt: KKT, system: System) -> tuple[Tensor, Operator]:
        """Return the factors ``D``, ``[n + m]``, and the scaled operator; ones and itself where it is not dense."""
        if not self.equilibrate or system.hessian is None or system.jacobian is None:
            return torch.ones(kkt.shape[0], dtype=kkt.dtype, device=kkt.device), kkt
        matrix = assemble(system.hessian, system.jacobian, shift=system.shift)
        scale = equilibrate(matrix)
        return scale, DenseOperator(scale[:, None] * matrix * scale)

    def _search(
        self, program: Program, site: Site, multipliers: Tensor, z: Tensor, merit: ExactLagrangian, slopes: Slopes
    ) -> tuple[float, tuple[Site, Tensor] | None]:
        """Return the accepted step and where it leads; ``None`` when there is none."""
        here, slope = merit.value(site, multipliers), float(slopes.gradient(merit) @ z)
        rounding = 10 * torch.finfo(z.dtype).eps * abs(here)
        dx, dl = z.split([site.x.numel(), multipliers.numel()])
        step = 1.0
        while step > 1e-14 and math.isfinite(slope):
            trial = program.site(site.x + step * dx)
            value = merit.value(trial, multipliers + step * dl)
            if value <= here + self.armijo * step * slope + rounding:
                return step, (trial, multipliers + step * dl)
            step /= 2
        return step, None


def _same(v: Tensor) -> Tensor:
    return v
