"""Runs of composite minimization: recipes through `precond.minimize` with a penalty."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import Budget, PrecondError, Status, Work
from precond.core import Composite as Oracle
from precond.problems import Composite, CompositeInstance
from precond.race.field.contestant import Contestant, Tuned
from precond.race.results.records import Run
from precond.race.runners import Failure, Note, Runner
from precond.race.runners.clock import Clock
from precond.race.runners.watch import Watch
from precond.smooth import Event, minimize
from precond.solvers.smooth.forms import SmoothForm

_MANY = 10**9


def price(work: Work) -> float:
    """Return the work that tuning minimizes: gradients + losses + 2 Hessian products."""
    return work.gradients + work.losses + 2.0 * work.hvps


class CompositeRunner(Runner):
    """Runs minimizers on `Composite` problems."""

    def __init__(self) -> None:
        self._warm: set[tuple[int, str]] = set()

    def refusal(self, problem: Composite, contestant: Contestant, device: torch.device) -> str:
        """Ask the method itself, for one step."""
        if contestant.rival:
            return "it knows no penalty; prox-newton and fista can run here"
        instance = problem.build(0, device)
        try:
            built: Tuned = contestant.build(dict(contestant.defaults))
            minimize(instance.fun, instance.x0, penalty=instance.penalty, method=built.method, max_iterations=1)
        except PrecondError as error:
            return str(error)
        return ""

    def run(
        self, problem: Composite, contestant: Contestant, run: Run, budget: Budget, device: torch.device, note: Note
    ) -> None:
        """Minimize from the starting point until the target is met or the horizon ends."""
        instance = problem.build(run.seed, device)
        measure = _measure(instance)
        key = (id(problem), contestant.name)
        if key not in self._warm:
            self._warm.add(key)
            clock = Clock(device)
            clock.start()
            brief = Watch(measure, problem.target, Budget(steps=2), device, _quiet, price, _gradients)
            with contextlib.suppress(Failure):
                _go(contestant.build(run.settings), instance, brief, Budget(steps=2))
            run.warmup_seconds = clock.stop()
        torch.manual_seed(run.seed)
        watch = Watch(measure, problem.target, budget, device, note, price, _gradients)
        try:
            watch.clock.start()
            _go(contestant.build(run.settings), instance, watch, budget)
        finally:
            watch.fill_in(run)


def _go(built: Tuned, instance: CompositeInstance, watch: Watch, budget: Budget) -> None:
    def callback(event: Event) -> bool:
        return watch.see(event.iteration, lambda: event.x, event.work)

    result = minimize(
        instance.fun, instance.x0, penalty=instance.penalty, method=built.method, tol=0.0,
        max_iterations=budget.steps if budget.steps is not None else _MANY, callback=callback,
    )  # fmt: skip
    if result.status is Status.STOPPED_INTERRUPT:
        raise KeyboardInterrupt
    if not watch.solved and result.status.group == "failed":
        watch.see(result.iterations, lambda: result.x, result.work, last=True)
        if not watch.solved:
            raise Failure(result.status.reason)


def _measure(instance: CompositeInstance) -> Callable[[Tensor], float]:
    form = SmoothForm.of(instance.fun, instance.x0, None, None)
    oracle = Oracle(form.objective(Work(), False), instance.penalty)
    start = oracle.spot(form.start[0]).measure or 1.0
    return lambda x: oracle.spot(x.reshape(-1)).measure / start


def _gradients(work: Work) -> float:
    return float(work.gradients)


def _quiet(text: str) -> None:
    logging.getLogger(__name__).debug("warm-up: %s", text)


RUNNER = CompositeRunner()
