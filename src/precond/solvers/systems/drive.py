"""The loop that the drivers of linear problems share: the iteration proposes, a recomputed residual decides."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from precond.core import Certificate, Iteration, Kernel, Look, Map, Operator, Progress, Status
from precond.krylov import run
from precond.math.machine.heap import keep_freed_memory
from precond.solvers.asking import stops
from precond.solvers.systems.certify import Certified, excess

_log = logging.getLogger(__name__)
_restarts = 8
_unseen, _numbers = 256, 2**20  # iterations, and numbers that each of their vectors has in all, between two looks
_near = 2.0


@dataclasses.dataclass(frozen=True)
class Event:
    """What a callback sees at the start and after each iteration.

    Attributes:
        iteration: Iterations done.
        residual: The method's own residual norm, the largest over the right-hand sides.
        solution: Returns the current solution in the form the problem was given in; it may cost work.
    """

    iteration: int
    residual: float
    solution: Callable[[], Any]


Callback = Callable[[Event], object]
Claims = Callable[[Progress, list[float], float], bool]
"""Whether progress meets the tolerance times a factor, told its residuals as numbers."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a drive ended; ``x`` has shape ``[batch, n]``, ``history`` starts with the residual at the start."""

    x: Tensor
    status: Status
    certificate: Certificate
    iterations: int
    history: list[float]


def drive(
    iteration: Iteration,
    operator: Operator,
    b: Tensor,
    precondition: Map,
    x0: Tensor,
    *,
    claims: Claims,
    certify: Callable[[Tensor], Certified],
    max_iterations: int,
    callback: Callback | None = None,
    kernel: Kernel | None = None,
    bound: float | None = None,
) -> Outcome:
    """Run an iteration until a certificate holds, or until there is a reason to give up.

    When the method's own residual claims convergence, the certificate is recomputed. If it does not hold by a little,
    the iteration goes on with a tighter claim; if by much, it starts again from where it is (residual replacement),
    and gives up with ``FAILED_STAGNATION`` when that no longer halves the certified value.

    Args:
        iteration: The method.
        operator: The matrix.
        b: Right-hand sides, shape ``[batch, m]``.
        precondition: Applies the preconditioner.
        x0: Starting points, shape ``[batch, n]``.
        claims: Whether the progress meets the tolerance times a factor.
        certify: Recomputes the certificate at a solution.
        max_iterations: Limit on iterations, over all restarts.
        callback: Called with an `Event` after every iteration, or every ``callback.pace`` where it has that; a true
            return value stops.
        kernel: The system as compiled loops take it, where it has one right-hand side.
        bound: Progress claims to meet the tolerance times a factor just when its residual is at most this times it.

    Returns:
        The last point, or the point of the last restart if that is better, with its certificate.
    """
    keep_freed_memory()
    unseen = _unseen if callback is None else getattr(callback, "pace", 1)
    pace = 1 if bound is None else max(1, min(unseen, _numbers // b.shape[1]))
    watch = _Watch(claims, certify, callback, bound, pace)
    x, before, done = x0, math.inf, 0
    for _ in range(1 + _restarts):
        watch.begin(done)
        try:
            progress, count = run(
                iteration, operator, b, precondition, x, stop=watch, max_iterations=max_iterations - done,
                kernel=kernel, look=watch.look,
            )  # fmt: skip
        except KeyboardInterrupt:
            if watch.progress is None:
                raise
            progress, count, watch.status = watch.progress, watch.count, Status.STOPPED_INTERRUPT
        done += count
        if watch.certified is not None:
            candidate, certified = watch.certified
        else:
            candidate = progress.solution()
            certified = certify(candidate)
        if certified[0].holds:
            return Outcome(candidate, certified[1], certified[0], done, watch.history)

        status = progress.failure or watch.status
        if status is None and done >= max_iterations:
            status = Status.STOPPED_STEPS
        if status is None and not excess(certified[0]) < before / 2:
            status = Status.FAILED_STAGNATION
        if status is not None:
            outcome = _better(Outcome(candidate, status, certified[0], done, watch.history), x, certify)
            return outcome if x is x0 else _better(outcome, x0, certify)
        _log.debug("residual replaced after %d iterations: certified %g", done, certified[0].value)
        x, before = candidate, excess(certified[0])
    return Outcome(x, Status.FAILED_STAGNATION, certified[0], done, watch.history)


def _better(outcome: Outcome, start: Tensor, certify: Callable[[Tensor], Certified]) -> Outcome:
    """Return the outcome, at the start of the last run if that is the better point."""
    certificate, converged = certify(start)
    if not excess(certificate) < excess(outcome.certificate):
        return outcome
    status = converged if certificate.holds else outcome.status
    return dataclasses.replace(outcome, x=start, certificate=certificate, status=status)


class _Watch:
    """The predicate that stops a run, with what it saw."""

    def __init__(
        self,
        claims: Claims,
        certify: Callable[[Tensor], Certified],
        callback: Callback | None,
        bound: float | None,
        pace: int,
    ) -> None:
        self.claims, self.certify, self.callback, self.bound, self.pace = claims, certify, callback, bound, pace
        self.look = Look()
        self.history: list[float] = []
        self.begin(0)

    def begin(self, done: int) -> None:
        """Forget the run before; ``done`` iterations have been done in all."""
        self.done, self.count, self.slack = done, -1, 1.0
        self.progress: Progress | None = None
        self.status: Status | None = None
        self.certified: tuple[Tensor, Certified] | None = None

    def __call__(self, progress: Progress) -> bool:
        """Whether to stop here: certified, off by much, not finite, or asked to by the callback."""
        self.progress, self.count, self.certified = progress, self.count + 1 + len(progress.skipped), None
        self.history += progress.skipped
        residuals: list[float] = progress.residual.tolist()
        residual = (
            residuals[0] if len(residuals) == 1 else max(residuals) if math.isfinite(sum(residuals)) else math.nan
        )
        if self.count > 0 or not self.history:
            self.history.append(residual)
            done = self.done + self.count
            if self.callback is not None and stops(self.callback, Event(done, residual, progress.solution)):
                self.status = Status.STOPPED_USER
                return True
        if not math.isfinite(residual):
            self.status = Status.FAILED_NON_FINITE
            return True
        if not self.claims(progress, residuals, self.slack):
            self._look_later()
            return False
        x = progress.solution()
        self.certified = (x, self.certify(x))
        off = excess(self.certified[1][0])
        if self.certified[1][0].holds or off > _near or self.slack < 0.1:
            return True
        self.slack *= 0.5 / off
        self._look_later()
        return False

    def _look_later(self) -> None:
        """Say when to look next: once the claim may hold, and now and then, lest an interrupt wait for long."""
        if self.bound is not None:
            self.look.level = self.slack * self.bound
        self.look.steps = self.pace
