"""Runs of linear solvers: recipes through the drivers of `precond.solvers`, rivals through SciPy."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import Budget, Operator, PrecondError, Result, Status, Work
from precond.operators import GramOperator, as_operator
from precond.preconditioners.identity import Identity
from precond.problems import LeastSquares, LinearSystem
from precond.race.field.contestant import Contestant, Pair
from precond.race.results.records import Run
from precond.race.runners import Failure, Note, Runner
from precond.race.runners.clock import Clock
from precond.race.runners.watch import Done, Watch
from precond.solvers.systems.certify import certify_system, estimated_frobenius_norm
from precond.solvers.systems.certify_lstsq import certify_least_squares
from precond.solvers.systems.compatible import check_iteration, check_preconditioner
from precond.solvers.systems.drive import Event
from precond.solvers.systems.lstsq import solve_least_squares
from precond.solvers.systems.solve import solve_linear

_MANY = 10**9

Rival = Callable[["LinearRival"], None]
System = LinearSystem | LeastSquares


def price(work: Work) -> float:
    """Return the work that tuning minimizes: products with the matrix + applications of the preconditioner."""
    return float(work.matvecs + work.applies)


class LinearRunner(Runner):
    """Runs iterations on `LinearSystem` and `LeastSquares` problems."""

    def __init__(self) -> None:
        self._warm: set[tuple[int, str]] = set()

    def refusal(self, problem: System, contestant: Contestant, device: torch.device) -> str:
        """Ask the drivers' own checks, without a product."""
        if contestant.rival:
            return _rival_refusal(problem, contestant, device)
        try:
            operator = _operator(problem, device)
            built: Pair = contestant.build(dict(contestant.defaults))
            check_iteration(operator, built.iteration)
            fed = GramOperator(operator) if isinstance(problem, LeastSquares) else operator
            if built.preconditioner is not None:
                check_preconditioner(fed, built.iteration, built.preconditioner)
        except PrecondError as error:
            return str(error)
        return ""

    def run(
        self, problem: System, contestant: Contestant, run: Run, budget: Budget, device: torch.device, note: Note
    ) -> None:
        """Solve with the right-hand side of the seed until the target is met or the horizon ends."""
        operator = _operator(problem, device)
        b = right_hand_side(problem, operator, run.seed)
        measure = _measure(problem, operator, b)
        key = (id(problem), contestant.name)
        if key not in self._warm:
            self._warm.add(key)
            clock = Clock(device)
            clock.start()
            brief = Watch(measure, problem.target, Budget(steps=2), device, _quiet, price, _products)
            with contextlib.suppress(Failure):
                _go(problem, contestant, run, operator, b, brief, 2)
            run.warmup_seconds = clock.stop()
        torch.manual_seed(run.seed)
        watch = Watch(measure, problem.target, budget, device, note, price, _products)
        try:
            watch.clock.start()
            _go(problem, contestant, run, operator, b, watch, budget.steps or _MANY)
        finally:
            watch.fill_in(run)


class LinearRival:
    """What a rival gets: the matrix for SciPy, counted, and the harness's callback.

    Args:
        operator: The matrix.
        b: The right-hand side, shape ``[n]``.
        watch: The harness's watch over the run.
        target: Value of the metric that counts as solved.
        limit: Largest number of iterations.

    Attributes:
        matrix: A ``LinearOperator`` whose products are counted.
        b: The right-hand side.
        target: Value of the metric that counts as solved.
        limit: Largest number of iterations.
    """

    def __init__(self, operator: Operator, b: Tensor, watch: Watch, target: float, limit: int) -> None:
        entries = operator.entries()
        self._like, self._watch = b, watch
        self.work = Work()
        self.target, self.limit = target, limit
        self.b = b.numpy()
        self.matrix = scipy.sparse.linalg.LinearOperator(
            operator.shape,
            matvec=self._counted(_product(entries, operator.matvec, b)),
            rmatvec=self._counted(_product(None if entries is None else entries.conj().T.tocsr(), operator.rmatvec, b)),
            dtype=self.b.dtype,
        )
        self._iteration = 0

    def start(self) -> None:
        """Let the harness see the starting point."""
        self._look(np.zeros(self.matrix.shape[1], self.b.dtype), 0)

    def callback(self, x: np.ndarray[Any, Any], stride: int = 1) -> None:
        """Let the harness see an iterate ``stride`` iterations on; leaves the solver when the run is over."""
        self._iteration += stride
        self._look(x, self._iteration)

    def end(self, x: np.ndarray[Any, Any], iterations: int | None = None) -> None:
        """Let the harness see the solution; a solver that stopped short of the target has failed.

        Args:
            x: The solution.
            iterations: Iterations done, if the callback did not count them.
        """
        done = self._iteration if iterations is None else iterations
        self._watch.see(done, lambda: torch.from_numpy(x), self.work, last=True)
        if not self._watch.solved and done < self.limit:
            raise Failure("it stopped short of the target")

    def _look(self, x: np.ndarray[Any, Any], iteration: int) -> None:
        if self._watch.see(iteration, lambda: torch.from_numpy(np.array(x, copy=True)), self.work):
            raise Done

    def _counted(self, product: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counted(x: Any) -> Any:
            self.work.matvecs += 1
            return product(x)

        return counted


def right_hand_side(problem: System, operator: Operator, seed: int) -> Tensor:
    """Return the right-hand side of a seed, shape ``[m]``: the problem's own, or a normal vector."""
    if problem.rhs is not None:
        return problem.rhs.to(operator.device, operator.dtype).reshape(-1)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(operator.shape[0], generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)


def _operator(problem: System, device: torch.device) -> Operator:
    matrix = problem.matrix
    if device.type != "cpu" and isinstance(matrix, Tensor):
        matrix = matrix.to(device)
    traits = {name: getattr(problem, name, None) for name in ("symmetric", "definite")}
    return as_operator(matrix, **traits)


def _go(
    problem: System, contestant: Contestant, run: Run, operator: Operator, b: Tensor, watch: Watch, limit: int
) -> None:
    built: Pair | Rival = contestant.build(run.settings)
    if not isinstance(built, Pair):
        try:
            built(LinearRival(operator, b, watch, problem.target, limit))
        except Done:
            return
        return
    work = Work()

    def solution(event: Event) -> Tensor:
        counts = work.counts()  # forming the iterate for the harness is not the method's work
        x = event.solution().reshape(-1)
        for name, count in counts.items():
            setattr(work, name, count)
        return x

    def callback(event: Event) -> bool:
        return watch.see(event.iteration, lambda: solution(event), work)

    drive = solve_least_squares if isinstance(problem, LeastSquares) else solve_linear
    result: Result = drive(
        operator, b[None], built.iteration, built.preconditioner or Identity(), rtol=problem.target,
        max_iterations=limit, callback=callback, work=work,
    )  # fmt: skip
    if result.status is Status.STOPPED_INTERRUPT:
        raise KeyboardInterrupt
    if watch.solved or result.status is Status.STOPPED_USER:
        return
    watch.see(result.iterations, lambda: result.x.reshape(-1), work, last=True)
    if not watch.solved and result.status.group == "failed":
        raise Failure(result.status.reason)


def _measure(problem: System, operator: Operator, b: Tensor) -> Callable[[Tensor], float]:
    rows = b[None]
    if isinstance(problem, LeastSquares):
        norm = estimated_frobenius_norm(operator)
        return lambda x: (
            certify_least_squares(
                operator, rows, x.to(b).reshape(1, -1), rtol=problem.target, atol=0.0, matrix_norm=norm
            )[0].value
        )
    return lambda x: certify_system(operator, rows, x.to(b).reshape(1, -1), rtol=problem.target, atol=0.0)[0].value


def _rival_refusal(problem: System, contestant: Contestant, device: torch.device) -> str:
    from precond.race.field.rivals import RIVALS

    if device.type != "cpu":
        return f"it runs on the CPU only; race with --device cpu, not {device}"
    rival, traits = RIVALS[contestant.name], _operator(problem, device).traits
    if rival.symmetric and traits.symmetric is False:
        return "it needs a symmetric matrix, this is not: use gmres or scipy.gmres"
    if rival.definite and traits.definite is False:
        return "it needs a positive definite matrix, this is not: use minres or gmres"
    return ""


def _product(
    entries: scipy.sparse.csr_array | None, product: Callable[[Tensor], Tensor], like: Tensor
) -> Callable[[Any], Any]:
    """Return ``x -> A x`` for SciPy: its own product where there are entries, ours otherwise."""
    if entries is not None:
        return lambda x: entries @ x.reshape(-1)
    return lambda x: product(torch.from_numpy(np.ascontiguousarray(x.reshape(1, -1))).to(like))[0].numpy()


def _products(work: Work) -> float:
    return float(work.matvecs)


def _quiet(text: str) -> None:
    logging.getLogger(__name__).debug("warm-up: %s", text)


RUNNER = LinearRunner()
