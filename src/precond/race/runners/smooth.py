"""Runs of smooth minimization: recipes through `precond.minimize`, rivals through their own interface."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import Budget, Method, Need, PrecondError, Status, Work
from precond.problems import Smooth, SmoothInstance
from precond.race.field.contestant import Contestant, Tuned
from precond.race.results.records import Run
from precond.race.runners import Failure, Note, Runner
from precond.race.runners.clock import Clock
from precond.race.runners.watch import Done, Watch
from precond.residuals import least_squares
from precond.smooth import Event, minimize

_MANY = 10**9

Rival = Callable[["SmoothRival"], None]


def price(work: Work) -> float:
    """Return the work that tuning minimizes: gradients + losses + 2 Hessian products."""
    return work.gradients + work.losses + 2.0 * work.hvps


class SmoothRunner(Runner):
    """Runs minimizers on `Smooth` problems."""

    def __init__(self) -> None:
        self._warm: set[tuple[int, str]] = set()

    def refusal(self, problem: Smooth, contestant: Contestant, device: torch.device) -> str:
        """Ask the driver, without a step."""
        if contestant.rival:
            return "" if device.type == "cpu" else f"it runs on the CPU only; race with --device cpu, not {device}"
        try:
            built: Tuned = contestant.build(dict(contestant.defaults))
            if _fits_residuals(built):
                has_residual = problem.build(0, device).residual is not None
                return "" if has_residual else "it needs a sum of squares with its residuals; newton-cg can run here"
            minimize(_sphere, torch.ones(2, dtype=torch.float64), method=built.method, lr=built.lr, max_iterations=0)
        except PrecondError as error:
            return str(error)
        return ""

    def run(
        self, problem: Smooth, contestant: Contestant, run: Run, budget: Budget, device: torch.device, note: Note
    ) -> None:
        """Minimize from the starting point of the seed until the target is met or the horizon ends."""
        instance = problem.build(run.seed, device)
        key = (id(problem), contestant.name)
        if key not in self._warm:
            self._warm.add(key)
            clock = Clock(device)
            clock.start()
            brief = Watch(_measure(instance), problem.target, Budget(steps=2), device, _quiet, price, _gradients)
            with contextlib.suppress(Failure):
                _go(contestant.build(run.settings), instance, brief, Budget(steps=2))
            run.warmup_seconds = clock.stop()
        torch.manual_seed(run.seed)
        watch = Watch(_measure(instance), problem.target, budget, device, note, price, _gradients)
        try:
            watch.clock.start()
            _go(contestant.build(run.settings), instance, watch, budget)
        finally:
            watch.fill_in(run)


class SmoothRival:
    """What a rival gets: the objective in NumPy, counted, and the harness's callback.

    Args:
        instance: The objective with its starting point.
        watch: The harness.
        limit: Largest number of iterations.
    """

    def __init__(self, instance: SmoothInstance, watch: Watch, limit: int) -> None:
        self.work = Work()
        self.limit = limit
        self._instance, self._watch = instance, watch
        self._iteration = 0

    @property
    def x0(self) -> np.ndarray[Any, Any]:
        """The starting point."""
        return self._instance.x0.detach().cpu().numpy().copy()

    def fun(self, x: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        """Return value and gradient."""
        self.work.gradients += 1
        loss, gradient = _evaluate(self._instance, self._tensor(x))
        return loss, gradient.numpy()

    def hessp(self, x: np.ndarray[Any, Any], p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the Hessian's product with ``p``."""
        self.work.hvps += 1
        leaf = self._tensor(x).requires_grad_()
        (gradient,) = torch.autograd.grad(self._instance.fun(leaf), leaf, create_graph=True)
        (product,) = torch.autograd.grad(gradient, leaf, self._tensor(p))
        return product.numpy()

    def start(self) -> None:
        """Let the harness see the starting point."""
        if self._watch.see(0, lambda: self._instance.x0, self.work):
            raise Done

    def callback(self, x: np.ndarray[Any, Any]) -> None:
        """Let the harness see an iterate; leaves the solver when the run is over."""
        self._iteration += 1
        if self._watch.see(self._iteration, lambda: self._tensor(x), self.work):
            raise Done

    def end(self, x: np.ndarray[Any, Any], message: str) -> None:
        """Let the harness see the solution; a solver that stopped short of the target has failed.

        Args:
            x: The solution.
            message: Why it stopped, in the solver's words.
        """
        self._watch.see(self._iteration, lambda: self._tensor(x), self.work, last=True)
        if not self._watch.solved and self._iteration < self.limit:
            raise Failure(f"it stopped short of the target: {message}")

    def _tensor(self, x: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(np.array(x, copy=True)).to(self._instance.x0)


def _go(built: Tuned | Rival, instance: SmoothInstance, watch: Watch, budget: Budget) -> None:
    limit = budget.steps if budget.steps is not None else _MANY
    if not isinstance(built, Tuned):
        try:
            built(SmoothRival(instance, watch, limit))
        except Done:
            return
        return

    def callback(event: Event) -> bool:
        return watch.see(event.iteration, lambda: event.x, event.work)

    if _fits_residuals(built):
        assert instance.residual is not None, "refused before"
        result = least_squares(
            instance.residual, instance.x0, method=built.method, tol=0.0, max_iterations=limit, callback=callback
        )
    else:
        result = minimize(
            instance.fun, instance.x0, method=built.method, lr=built.lr, tol=0.0, max_iterations=limit,
            callback=callback,
        )  # fmt: skip
    if result.status is Status.STOPPED_INTERRUPT:
        raise KeyboardInterrupt
    if watch.solved:
        return
    if result.status.group == "failed":
        watch.see(result.iterations, lambda: result.x, result.work, last=True)
        if not watch.solved:
            raise Failure(result.status.reason)


def _fits_residuals(built: Tuned) -> bool:
    return isinstance(built.method, Method) and Need.RESIDUAL in built.method.needs


def _evaluate(instance: SmoothInstance, x: Tensor) -> tuple[float, Tensor]:
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        loss = instance.fun(leaf)
        (gradient,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), gradient


def _measure(instance: SmoothInstance) -> Callable[[Tensor], float]:
    def measure(x: Tensor) -> float:
        return float(instance.measure(x, *_evaluate(instance, x)))

    return measure


def _gradients(work: Work) -> float:
    return float(work.gradients)


def _sphere(x: Tensor) -> Tensor:
    return (x * x).sum()


def _quiet(text: str) -> None:
    logging.getLogger(__name__).debug("warm-up: %s", text)


RUNNER = SmoothRunner()
