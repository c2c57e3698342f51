"""Programs whose Hessian is learned from the points of a run, where products with it would cost first derivatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor

from precond.core import Operator, Program, ProgramIteration, Site, Status, Work
from precond.operators.dense import DenseOperator
from precond.operators.hessian import Hessian
from precond.solvers.asking import stops
from precond.solvers.programs.drive import ProgramOutcome, run_program
from precond.solvers.programs.given import GivenProgram
from precond.solvers.smooth.minimize import Event

DAMPED = 0.2
"""Least curvature along a step that an update may learn, as a share of what was known."""
PRICE = 12
"""After as many evaluations as so many Hessians cost by differences, these take over."""


class SecantProgram(Program):
    """A program that is another's but for the Hessian: what has no products of its own is learned.

    From one point ``x`` to the next, ``x + s``, the gradient of the Lagrangian changes by ``y = grad L(x + s) - grad
    L(x)``, both with the newer multipliers; less what is known of it, that is the unknown part's product with ``s``. A
    matrix is updated by it as Broyden, Fletcher, Goldfarb and Shanno do, damped so that it stays positive definite.
    Slacks have no curvature.

    Source: M. J. D. Powell, *A fast algorithm for nonlinearly constrained optimization calculations*, 1978.

    Args:
        inner: The program, whose first derivatives are given.
    """

    def __init__(self, inner: GivenProgram) -> None:
        super().__init__(inner.lower, inner.upper, inner.equations, inner.work)
        self.slacks, self.dense, self._inner = inner.slacks, inner.dense, inner
        self._before: Site | None = None
        self._matrix: Tensor | None = None

    def hessian(self, site: Site, multipliers: Tensor) -> Operator:
        """Return what is known of the Hessian of the Lagrangian, and what was learned of the rest, ``[n, n]``."""
        known = self._inner.known_hessian(site, multipliers)
        n = site.x.numel() - (0 if self.slacks is None else len(self.slacks))
        before, self._before = self._before, site
        gradient = site.stationarity(multipliers)
        if self._matrix is None or before is None:
            size = float(gradient[:n].norm()) / max(1.0, float(site.x[:n].norm()))  # a first step as long as x, or 1
            unit = torch.eye(n, dtype=site.x.dtype, device=site.x.device)
            self._matrix = (size if 0 < size < torch.inf else 1.0) * unit
            self._fresh = True
        else:
            s, y = site.x - before.x, gradient - before.stationarity(multipliers)
            y = y if known is None else y - known.matvec(s[None])[0]
            self._matrix = self._updated(self._matrix, s[:n], y[:n])
        whole = torch.nn.functional.pad(self._matrix, (0, len(gradient) - n, 0, len(gradient) - n))
        if known is None:
            return DenseOperator(whole, symmetric=True)
        return Hessian(lambda v: known.matvec(v[None])[0] + whole @ v, site.x, Work())

    def _updated(self, matrix: Tensor, s: Tensor, y: Tensor) -> Tensor:
        if not float(s.norm()) > 0 or not bool(torch.isfinite(y).all()):
            return matrix
        if self._fresh and float(s @ y) > 0:
            matrix, self._fresh = float(y @ y) / float(s @ y) * torch.eye(len(s)).to(matrix), False
        p = matrix @ s
        learned, known = float(s @ y), float(s @ p)
        if learned < DAMPED * known:
            share = (1 - DAMPED) * known / (known - learned)
            y, learned = share * y + (1 - share) * p, DAMPED * known
        after = matrix + torch.outer(y, y) / learned - torch.outer(p, p) / known
        return after if bool(torch.isfinite(after).all()) else matrix

    def _values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._inner._values(x)

    def _site(self, x: Tensor) -> Site:
        return self._inner._site(x)


def learns(program: Program) -> TypeGuard[GivenProgram]:
    """Whether a program's Hessian takes differences of first derivatives, and is small enough to be learned."""
    return (
        isinstance(program, GivenProgram)
        and not program.exact
        and program.variables + program.equations <= program.dense
    )


@dataclasses.dataclass(frozen=True)
class Learning:
    """Runs with a Hessian that is learned, and by differences of gradients where that does not do.

    Attributes:
        program: The oracle; its account is charged.
        x0: Starting point, ``[n]``.
        iteration: The method.
        tol: Bound on each residual.
        max_iterations: Limit on iterations.
        callback: Sees an `Event` after each iteration; a true answer stops the run.
        observe: Sees every point.
    """

    program: GivenProgram
    x0: Tensor
    iteration: ProgramIteration
    tol: float
    max_iterations: int
    callback: Callable[[Event], object] | None
    observe: Callable[[Site], None]

    def run(self) -> ProgramOutcome:
        """Return the outcome, which says whether its Hessian was learned."""
        work, asked = self.program.work, False
        most = work.losses + PRICE * (self.program.variables + 1)

        def watch(event: Event) -> object:
            nonlocal asked
            asked = stops(self.callback, event)
            return asked or work.losses >= most

        found = run_program(
            SecantProgram(self.program), self.x0, self.iteration, tol=self.tol, max_iterations=self.max_iterations,
            callback=watch, observe=self.observe,
        )  # fmt: skip
        first = dataclasses.replace(found, learned=True)
        over = asked or first.status in (Status.CONVERGED_KKT, Status.STOPPED_STEPS, Status.STOPPED_INTERRUPT)
        return first if over else self.differ(first)

    def differ(self, first: ProgramOutcome) -> ProgramOutcome:
        """Return where differences lead: on from where a run got too dear, anew where it failed, or found a saddle."""
        done, callback = first.iterations, self.callback
        later = None
        if callback is not None:

            def later(event: Event) -> object:
                return callback(dataclasses.replace(event, iteration=done + event.iteration))

        second = run_program(
            self.program, first.iterate.site.x if first.status is Status.STOPPED_USER else self.x0, self.iteration,
            tol=self.tol, max_iterations=max(0, self.max_iterations - done), callback=later, observe=self.observe,
        )  # fmt: skip
        return dataclasses.replace(
            second, iterations=done + second.iterations, history=first.history + second.history[1:],
            facts=first.facts + second.facts[1:],
        )  # fmt: skip
