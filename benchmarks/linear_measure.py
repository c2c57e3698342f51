"""What the sections of `linear.py` share: contestants take turns, products are counted, residuals are recomputed."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.io
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
import torch

import precond
import precond.scipy
from precond.core import Evidence
from precond.operators import as_operator
from sections import Sections

SECTIONS = Sections("linear.py", "linear")
TOLERANCE = 1e-8
System = tuple[scipy.sparse.csr_array, np.ndarray]


def residual(A: Any, b: np.ndarray, x: np.ndarray) -> float:
    """Return ``||b - A x|| / ||b||``."""
    return float(np.linalg.norm(b - A @ x) / np.linalg.norm(b))


def medians(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each contestant, which take turns, after one turn that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, work in contestants.items():
            begin = time.process_time()
            work()
            if turn:
                seconds[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def repeated(work: Callable[[], Any], times: int = 20) -> Callable[[], None]:
    """Return a function that does something several times, and keeps no result, whose memory would be fresh."""

    def run() -> None:
        for _ in range(times):
            work()

    return run


class Counted(scipy.sparse.linalg.LinearOperator):
    """A matrix that counts its products."""

    def __init__(self, matrix: scipy.sparse.csr_array) -> None:
        super().__init__(matrix.dtype, matrix.shape)
        self.matrix, self.products = matrix, 0

    def _matvec(self, v: np.ndarray) -> np.ndarray:
        self.products += 1
        return self.matrix @ v.ravel()


Way = Callable[[Counted, np.ndarray], np.ndarray]


def applied(part: Any, matrix: scipy.sparse.csr_array, count: int = 1) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return how one of our preconditioners is applied, set up for a matrix and a number of vectors."""
    state = part.init(torch.zeros(count, matrix.shape[0], dtype=torch.float64))
    part.observe(state, Evidence(operator=as_operator(matrix)))
    part.refresh(state)
    return lambda v: part.apply(state, v)


def inverse(part: Any, matrix: scipy.sparse.csr_array) -> scipy.sparse.linalg.LinearOperator:
    """Return one of our preconditioners, set up for a matrix, as SciPy's solvers take it."""
    apply = applied(part, matrix)
    return scipy.sparse.linalg.LinearOperator(
        matrix.shape, matvec=lambda v: apply(torch.from_numpy(v.reshape(1, -1)))[0].numpy(), dtype=float
    )


@dataclasses.dataclass
class Account:
    """What a contestant took for a sequence."""

    seconds: float
    products: int
    worst: float


def in_turns(systems: Sequence[System], ways: dict[str, Way]) -> dict[str, Account]:
    """Solve one system after another, each in every way before the next: what else runs on the machine slows all."""
    accounts = {name: Account(0.0, 0, 0.0) for name in ways}
    for matrix, b in systems:
        for name, solve in ways.items():
            account, counted = accounts[name], Counted(matrix)
            begin = time.process_time()
            x = solve(counted, b)
            account.seconds += time.process_time() - begin
            account.products += counted.products
            account.worst = max(account.worst, residual(matrix, b, x))
    return accounts


def in_sequence(systems: Sequence[System], solve: Way) -> Account:
    """Solve one system after another in one way."""
    return in_turns(systems, {"": solve})[""]


def our_sequence(systems: Sequence[System], **options: Any) -> tuple[Account, Any]:
    """Solve one system after another with ``SolveSequence``."""
    sequence = precond.SolveSequence(rtol=TOLERANCE, **options)
    account = in_sequence(systems, lambda A, b: sequence.solve(A.matrix, b).x)
    account.products = sequence.work.matvecs
    return account, sequence
