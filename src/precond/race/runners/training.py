"""Training runs: the harness computes loss and gradient, times them apart from the method, and evaluates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from precond.core import Budget, PrecondError
from precond.optim.optimizer import Optimizer
from precond.problems import Training, TrainingInstance
from precond.race.field.contestant import Contestant, Tuned
from precond.race.results.records import Run
from precond.race.runners import Failure, Note, Runner
from precond.race.runners.clock import Clock, Share
from precond.race.runners.curve import Curve

WARMUP_STEPS = 2


class TrainingRunner(Runner):
    """Runs optimizers on `Training` problems."""

    def __init__(self) -> None:
        self._warm: set[tuple[int, str]] = set()
        self._probe: tuple[int, nn.Module] | None = None

    def refusal(self, problem: Training, contestant: Contestant, device: torch.device) -> str:
        """Try to make the optimizer for the problem's own model; no step is taken."""
        if self._probe is None or self._probe[0] != id(problem):
            self._probe = (id(problem), problem.build(0, device).model)
        try:
            _optimizer(contestant, dict(contestant.defaults), self._probe[1])
        except PrecondError as error:
            return str(error)
        return ""

    def run(
        self, problem: Training, contestant: Contestant, run: Run, budget: Budget, device: torch.device, note: Note
    ) -> None:
        """Train one model to the horizon."""
        run.warmup_seconds = self._warm_up(problem, contestant, run, device)
        torch.manual_seed(run.seed)
        instance = problem.build(run.seed, device)
        optimizer = _optimizer(contestant, run.settings, instance.model)
        parameters = sum(parameter.numel() for parameter in instance.model.parameters())
        course = _Course(problem, instance, optimizer, budget, device, note)
        try:
            course.go()
        finally:
            course.fill_in(run)
            run.state_bytes_per_parameter = _state_bytes(optimizer) / max(parameters, 1)

    def _warm_up(self, problem: Training, contestant: Contestant, run: Run, device: torch.device) -> float:
        """Take two steps on a throw-away copy, once per process: kernels, compilation and caches."""
        key = (id(problem), contestant.name)
        if key in self._warm:
            return 0.0
        self._warm.add(key)
        clock = Clock(device)
        instance = problem.build(run.seed, device)
        optimizer = _optimizer(contestant, run.settings, instance.model)
        clock.start()
        for step in range(WARMUP_STEPS):

            def evaluate(step: int = step) -> Tensor:
                optimizer.zero_grad()
                loss = instance.loss(step)
                loss.backward()
                return loss

            _take_step(optimizer, None if _replays(optimizer) else evaluate(), evaluate)
        instance.evaluate()
        return clock.stop()


def _replays(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer must itself call for the first evaluation of a batch, to draw the same masks again."""
    return isinstance(optimizer, Optimizer) and optimizer.replays


def _take_step(optimizer: torch.optim.Optimizer, early: Tensor | None, evaluate: Callable[[], Tensor]) -> Tensor:
    """Take one step and return the loss at the weights before it.

    Args:
        optimizer: The optimizer.
        early: The loss, if it and its gradients were evaluated already: what the optimizer is told first.
        evaluate: Evaluates loss and gradients at the current weights.

    Returns:
        The loss.
    """
    told = [] if early is None else [early]
    first: list[Tensor] = []

    def closure() -> Tensor:
        value = told.pop() if told else evaluate()
        first.append(value.detach())
        return value

    optimizer.step(closure)  # type: ignore[arg-type]  # torch's closure returns a float
    return first[0] if early is None else early


class _Course:
    """One training run under the harness's clock."""

    def __init__(
        self,
        problem: Training,
        instance: TrainingInstance,
        optimizer: torch.optim.Optimizer,
        budget: Budget,
        device: torch.device,
        note: Note,
    ) -> None:
        self.instance, self.optimizer, self.budget, self.note = instance, optimizer, budget, note
        self.clock = Clock(device)
        self.share = Share(self.clock, device)
        self.curve = Curve(problem.target)
        self.evaluations = max(problem.evaluations, 1)
        self.checked = 1 if device.type == "cpu" else 16
        self.steps = 0
        self.gradients = 0
        self.measured = -1

    def go(self) -> None:
        self._evaluate()
        marks = 1
        self.clock.start()
        while not self._over():
            self._step()
            if self._reached(marks):
                self._evaluate()
                while self._reached(marks):
                    marks += 1
        self._evaluate()
        self.clock.stop()

    def _progress(self) -> float:
        by_steps = self.steps / self.budget.steps if self.budget.steps else 0.0
        by_seconds = self.clock.seconds / self.budget.seconds if self.budget.seconds else 0.0
        return max(by_steps, by_seconds)

    def _over(self) -> bool:
        return self._progress() >= 1.0

    def _reached(self, mark: int) -> bool:
        return self._progress() >= mark / self.evaluations

    def _step(self) -> None:
        divided = self.share.divides(self.steps)
        start = self.clock.now() if divided else 0.0
        early = None if _replays(self.optimizer) else self._oracle()
        middle = self.clock.now() if divided else 0.0
        inside = 0.0

        def evaluate() -> Tensor:  # a method that asks again gets a fresh evaluation, charged to the oracle
            nonlocal inside
            began = time.perf_counter()
            value = self._oracle()
            inside += time.perf_counter() - began
            return value

        loss = _take_step(self.optimizer, early, evaluate)
        if divided:
            end = self.clock.now()
            self.share.oracle += middle - start + inside
            self.share.method += end - middle - inside
        self.steps += 1
        if self.steps % self.checked == 0 and not math.isfinite(float(loss.detach())):
            raise Failure(f"the loss became {float(loss.detach()):g} at step {self.steps}")

    def _oracle(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.instance.loss(self.steps)
        loss.backward()
        self.gradients += 1
        return loss

    def _evaluate(self) -> None:
        if self.measured == self.steps:
            return
        self.measured = self.steps
        with self.clock.stopped() as seconds:
            metric = float(self.instance.evaluate())
            self.curve.record(self.steps, seconds, self.gradients, metric)
            self.note(f"{_limit(self.steps, seconds, self.budget)}, {metric:.4g}")
            if not math.isfinite(metric):
                raise Failure(f"the metric became {metric:g} at step {self.steps}")

    def fill_in(self, run: Run) -> None:
        """Write everything measured into ``run``."""
        run.seconds = self.clock.stop()
        run.steps = self.steps
        run.final, run.best = self.curve.final, self.curve.best
        run.steps_to_target, run.seconds_to_target = self.curve.steps_to_target, self.curve.seconds_to_target
        run.optimizer_share = self.share.value
        work = self.optimizer.work.counts() if isinstance(self.optimizer, Optimizer) else {}
        run.work = {**work, "gradients": self.gradients}
        run.curve = dict(self.curve.columns())
        run.score = run.final


def _limit(steps: int, seconds: float, budget: Budget) -> str:
    return f"step {steps}/{budget.steps}" if budget.steps else f"{seconds:.0f}/{budget.seconds:g} s"


def _optimizer(contestant: Contestant, settings: dict[str, Any], model: nn.Module) -> torch.optim.Optimizer:
    built: Tuned | Callable[[Any], torch.optim.Optimizer] = contestant.build(settings)
    if isinstance(built, Tuned):
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        lr = 1.0 if built.lr is None else built.lr
        return Optimizer(named, built.method, lr=lr, weight_decay=built.weight_decay)
    return built(parameter for parameter in model.parameters() if parameter.requires_grad)


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    if isinstance(optimizer, Optimizer):
        return optimizer.state_bytes()
    tensors = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


RUNNER = TrainingRunner()
