"""Every iteration keeps the laws."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from precond.core import IncompatibleError, Iteration, Map, Operator, Progress
from precond.operators import as_operator
from precond.preconditioners.jacobi import Jacobi
from precond.solvers.systems.compatible import check_preconditioner
from tests.laws.discover import instances, name
from tests.laws.feed import random, spd

F64 = torch.float64
N, ROWS, LIMIT = 12, 17, 400
every_iteration = pytest.mark.parametrize("part", instances(Iteration), ids=name)


def system(part: Iteration) -> tuple[Tensor, Operator]:
    """Return a matrix that the iteration accepts, dense and as an operator."""
    if part.definite_operator or part.symmetric_operator:
        matrix = spd(N, 3)
    elif part.square:
        matrix = spd(N, 3) + random((N, N), 4)
    else:
        matrix = random((ROWS, N), 5)
    return matrix, as_operator(matrix, definite=True if part.definite_operator else None)


def identity(v: Tensor) -> Tensor:
    return v.clone()


def run(part: Iteration, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Progress:
    """Return the last progress of at most LIMIT iterations, stopped when the estimate says 1e-11."""
    last = None
    for last in itertools.islice(part.iterate(operator, b, precondition, x0), LIMIT):
        if last.solved or last.failure is not None or bool((last.residual <= 1e-11 * b.norm()).all()):
            break
    assert last is not None, "an iteration must yield the progress at x0"
    return last


def exact(matrix: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.lstsq(matrix, b.T).solution.T


def preconditioner(part: Iteration, matrix: Tensor) -> Map:
    """Return a fixed, symmetric, positive definite map for the solution space."""
    diagonal = (matrix.T @ matrix).diagonal() if not part.square else matrix.diagonal().abs()
    return lambda v: v / diagonal


@every_iteration
@pytest.mark.parametrize("batch", [1, 3])
def test_solves_a_small_system(part: Iteration, batch: int) -> None:
    matrix, operator = system(part)
    b = random((batch, matrix.shape[0]), 6)
    x0 = torch.zeros(batch, N, dtype=F64)
    progress = run(part, operator, b, identity, x0)
    torch.testing.assert_close(progress.solution(), exact(matrix, b), rtol=1e-6, atol=1e-8)


@every_iteration
def test_solves_with_a_preconditioner_and_applies_it(part: Iteration) -> None:
    matrix, operator = system(part)
    b, calls = random((1, matrix.shape[0]), 6), []
    scaling = preconditioner(part, matrix)

    def precondition(v: Tensor) -> Tensor:
        calls.append(v.shape)
        return scaling(v)

    progress = run(part, operator, b, precondition, torch.zeros(1, N, dtype=F64))
    torch.testing.assert_close(progress.solution(), exact(matrix, b), rtol=1e-6, atol=1e-8)
    if not part.preconditioned:  # the driver refuses any, so that none is silently ignored
        with pytest.raises(IncompatibleError, match="takes no preconditioner"):
            check_preconditioner(operator, part, Jacobi())
        return
    assert calls, "the preconditioner that was passed was not applied"


@every_iteration
def test_starts_where_it_is_told(part: Iteration) -> None:
    matrix, operator = system(part)
    b = random((2, matrix.shape[0]), 6)
    x0 = random((2, N), 7)
    first = next(iter(part.iterate(operator, b, identity, x0)))
    torch.testing.assert_close(first.solution(), x0)
    assert first.residual.shape == (2,)
    torch.testing.assert_close(run(part, operator, b, identity, x0).solution(), exact(matrix, b), rtol=1e-6, atol=1e-8)


@every_iteration
def test_writes_to_none_of_its_arguments(part: Iteration) -> None:
    matrix, operator = system(part)
    b, x0 = random((2, matrix.shape[0]), 6), random((2, N), 7)
    kept_b, kept_x0 = b.clone(), x0.clone()
    run(part, operator, b, identity, x0)
    assert torch.equal(b, kept_b)
    assert torch.equal(x0, kept_x0)


def _buffered(apply: Map) -> Map:
    """Return a map that writes each result to the memory of the one before."""
    memory: dict[torch.Size, Tensor] = {}

    def written(v: Tensor) -> Tensor:
        result = apply(v)
        return memory.setdefault(result.shape, torch.zeros_like(result)).copy_(result)

    return written


class _Buffered(Operator):
    """An operator that writes each product to the memory of the one before."""

    def __init__(self, inner: Operator) -> None:
        self.inner = inner
        self.shape, self.dtype, self.device, self.traits = inner.shape, inner.dtype, inner.device, inner.traits
        self.forth, self.back = _buffered(inner.matvec), _buffered(inner.rmatvec)

    def matvec(self, x: Tensor) -> Tensor:
        return self.forth(x)

    def rmatvec(self, y: Tensor) -> Tensor:
        return self.back(y)

    def entries(self):
        return self.inner.entries()


@every_iteration
def test_products_and_applications_may_come_in_the_same_memory_each_time(part: Iteration) -> None:
    matrix, operator = system(part)
    b, x0 = random((1, matrix.shape[0]), 6), random((1, N), 7)
    scaling = preconditioner(part, matrix)
    fresh = itertools.islice(part.iterate(operator, b, scaling, x0), 30)
    again = itertools.islice(part.iterate(_Buffered(operator), b, _buffered(scaling), x0), 30)
    for one, other in zip(fresh, again, strict=True):
        torch.testing.assert_close(one.residual, other.residual, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(one.solution(), other.solution(), rtol=1e-6, atol=1e-9)


@every_iteration
def test_a_solution_stays_what_it_was(part: Iteration) -> None:
    matrix, operator = system(part)
    b = random((1, matrix.shape[0]), 6)
    running = part.iterate(operator, b, identity, torch.zeros(1, N, dtype=F64))
    early = [progress.solution() for progress in itertools.islice(running, 3)]
    kept = [x.clone() for x in early]
    list(itertools.islice(running, 3))
    assert all(torch.equal(x, k) for x, k in zip(early, kept, strict=True)), "a returned solution was overwritten"


@every_iteration
def test_rows_do_not_interact(part: Iteration) -> None:
    matrix, operator = system(part)
    b, x0 = random((3, matrix.shape[0]), 6), torch.zeros(3, N, dtype=F64)
    b[1] *= 1e6
    if part.block:
        pytest.skip("rows are right-hand sides of one system, which share what is found")
    together = list(itertools.islice(part.iterate(operator, b, identity, x0), 5))[-1].solution()
    for row in range(3):
        take = slice(row, row + 1)
        alone = list(itertools.islice(part.iterate(operator, b[take], identity, x0[take]), 5))[-1].solution()
        torch.testing.assert_close(together[take], alone, rtol=1e-7, atol=1e-10)


@every_iteration
def test_a_zero_right_hand_side_gives_zero(part: Iteration) -> None:
    matrix, operator = system(part)
    b, x0 = torch.zeros(1, matrix.shape[0], dtype=F64), torch.zeros(1, N, dtype=F64)
    for progress in itertools.islice(part.iterate(operator, b, identity, x0), 4):
        assert torch.equal(progress.solution(), x0)
        if progress.failure is not None or progress.solved:
            break


@every_iteration
def test_keeps_dtype(part: Iteration) -> None:
    matrix, _ = system(part)
    operator = as_operator(matrix.float(), definite=True if part.definite_operator else None)
    b = random((1, matrix.shape[0]), 6).float()
    for progress in itertools.islice(part.iterate(operator, b, identity, torch.zeros(1, N)), 6):
        assert progress.solution().dtype == torch.float32
