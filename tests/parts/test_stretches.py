"""Compiled stretches of an iteration: the iterates, work and endings of single steps, whatever is known of a system."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse
import torch

from precond.core import Evidence, Kernel, Look, Status, Work
from precond.krylov import CG, LSMR, LSQR, MINRES, BiCGStab
from precond.operators import FunctionOperator, as_operator
from precond.preconditioners.ic0 import IC0
from precond.preconditioners.ilu0 import ILU0
from precond.solvers.systems.counted import CountedOperator, counted_apply, counted_identity
from tests.papers.linear_toys import poisson

N = 144
rng = np.random.default_rng(5)
SHIFTED = scipy.sparse.csr_array(poisson(12) - 1.3 * scipy.sparse.eye_array(N))
WINDY = scipy.sparse.csr_array(poisson(12) + scipy.sparse.diags_array([np.full(N - 1, 0.6)], offsets=[1]))
TALL = scipy.sparse.csr_array(scipy.sparse.vstack([WINDY, scipy.sparse.eye_array(N)]))
SYSTEMS = {
    "cg": (CG(), poisson(12), IC0),
    "minres": (MINRES(), SHIFTED, IC0),
    "bicgstab": (BiCGStab(), WINDY, ILU0),
    "lsqr": (LSQR(estimates=True), TALL, None),
    "lsmr": (LSMR(), TALL, None),
}


def both(iteration, matrix, part, known, start, dtype=float, steps=12, look=None):
    """Return what single steps yield, and what stretches do, with the work of both."""
    operator = as_operator(matrix.astype(dtype))
    b = torch.from_numpy(np.random.default_rng(7).standard_normal(matrix.shape[0]).astype(dtype))[None]
    x0 = torch.zeros(1, matrix.shape[1], dtype=b.dtype)
    if start:
        x0 += 1
    found = []
    for compiled in (False, True):
        work = Work()
        counted = CountedOperator(operator, work)
        apply, sweeps = counted_identity(work), ()
        if part is not None:
            inner = part()
            state = inner.init(x0)
            inner.observe(state, Evidence(operator=as_operator(poisson(12).astype(dtype) if part is IC0 else matrix)))
            inner.refresh(state)
            apply, sweeps = counted_apply(inner, state, work), inner.compiled(state)
        arrays = operator.compiled() if "matrix" in known else None
        kernel = Kernel(arrays, sweeps if "inverse" in known or part is None else None, work.charge)
        progress = (
            iteration.ahead(kernel, look or Look(), counted, b, apply, x0)
            if compiled
            else iteration.iterate(counted, b, apply, x0)
        )
        seen = [(p, p.solution()) for p in itertools.islice(progress, steps + 1)]
        found.append((seen, work))
    return found


KNOWN = [
    (False, "nothing"),
    (False, "matrix"),
    *((True, k) for k in ("nothing", "matrix", "inverse", "matrix, inverse")),
]
CASES = [(name, *case) for name, case in itertools.product(SYSTEMS, KNOWN) if SYSTEMS[name][2] or not case[0]]
SQUARE = [name for name, (iteration, _, _) in SYSTEMS.items() if iteration.square]


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize(("name", "preconditioned", "known"), CASES)
def test_iterates_are_those_of_single_steps(name, preconditioned, known, start):
    iteration, matrix, part = SYSTEMS[name]
    (one, work), (other, spent) = both(iteration, matrix, part if preconditioned else None, known, start)
    assert len(one) == len(other)
    for (p, x), (q, y) in zip(one, other, strict=True):
        np.testing.assert_allclose(q.residual, p.residual, rtol=1e-7)
        np.testing.assert_allclose(y, x, rtol=1e-7, atol=1e-9)
        for quantity in ("normal", "matrix_norm", "condition", "own"):
            if getattr(p, quantity, None) is not None:
                np.testing.assert_allclose(getattr(q, quantity), getattr(p, quantity), rtol=1e-7)
        if getattr(p, "estimates", None) is not None and p.estimates.step:
            np.testing.assert_allclose(q.estimates.condition, p.estimates.condition, rtol=1e-7)
            np.testing.assert_allclose(q.estimates.variances, p.estimates.variances, rtol=1e-6, atol=1e-12)
    assert (work.matvecs, work.applies) == (spent.matvecs, spent.applies)


@pytest.mark.parametrize("known", ["matrix", "nothing"])
@pytest.mark.parametrize("name", SQUARE)
def test_many_steps_at_once_are_as_many_single_ones(name, known):
    iteration, matrix, _ = SYSTEMS[name]
    _, (other, _) = both(iteration, matrix, None, known, False, steps=2, look=Look(0.0, 9))
    (one, _), _ = both(iteration, matrix, None, known, False, steps=18)
    assert [len(p.skipped) for p, _ in other] == [0, 8, 8]
    residuals = [r for p, _ in other for r in (*p.skipped, float(p.residual))]
    np.testing.assert_allclose(residuals, [float(p.residual) for p, _ in one], rtol=1e-7)


@pytest.mark.parametrize("known", ["matrix", "nothing"])
@pytest.mark.parametrize("name", ["cg", "minres"])
def test_a_stretch_ends_where_somebody_wants_to_look(name, known):
    iteration, matrix, _ = SYSTEMS[name]
    (one, _), _ = both(iteration, matrix, None, known, False)
    residuals = [float(p.residual) for p, _ in one]
    level = 0.5 * (residuals[4] + residuals[5])
    _, (other, _) = both(iteration, matrix, None, known, False, steps=1, look=Look(level, 99))
    first = next(k for k, r in enumerate(residuals) if k and r <= level)
    assert len(other[1][0].skipped) == first - 1


@pytest.mark.parametrize("known", ["matrix", "nothing"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_complex_and_single_precision(name, known):
    iteration, matrix, _ = SYSTEMS[name]
    phases = np.exp(1j * rng.random(matrix.shape[0]))
    left, right = scipy.sparse.diags_array(phases), scipy.sparse.diags_array(phases[:N].conj())
    turned = scipy.sparse.csr_array(left @ matrix @ right)
    for a, dtype, rtol in ((turned, complex, 1e-7), (matrix, np.float32, 1e-3)):
        (one, work), (other, spent) = both(iteration, a, None, known, False, dtype, steps=6)
        assert work.matvecs == spent.matvecs
        for (p, x), (q, y) in zip(one, other, strict=True):
            assert y.dtype == x.dtype
            np.testing.assert_allclose(q.residual, p.residual, rtol=rtol)
            np.testing.assert_allclose(y, x, rtol=rtol, atol=rtol * abs(x).max())


def endings(iteration, matrix, b, precondition):
    """Return how both ways end."""
    operator = as_operator(scipy.sparse.csr_array(matrix))
    vector, found = torch.from_numpy(b)[None], []
    for kernel in (None, Kernel(operator.compiled(), None, lambda *_: None)):
        arguments = operator, vector, precondition, torch.zeros_like(vector)
        progress = iteration.iterate(*arguments) if kernel is None else iteration.ahead(kernel, Look(), *arguments)
        for step in itertools.islice(progress, 50):
            if step.failure is not None or step.solved:
                break
        found.append((step.failure, step.solved, step.solution().numpy()))
    return found


@pytest.mark.parametrize(
    ("iteration", "matrix", "b", "precondition", "failure"),
    [
        (MINRES(), np.diag([1.0, 2.0, 3.0, 0.0]), np.ones(4), torch.clone, Status.FAILED_BREAKDOWN),
        (MINRES(), np.diag([1.0, -2.0, 3.0]), np.ones(3), torch.clone, None),
        (MINRES(), np.eye(3) + 1, np.ones(3), torch.neg, Status.FAILED_INDEFINITE_PRECONDITIONER),
        (BiCGStab(), np.array([[0.0, 1.0], [-1.0, 0.0]]), np.ones(2), torch.clone, Status.FAILED_BREAKDOWN),
        (BiCGStab(), np.diag([1.0, 2.0]), np.ones(2), torch.clone, None),
        (CG(), np.diag([1.0, -1.0, 2.0]), np.array([1.0, 2.0, 1.0]), torch.clone, Status.FAILED_INDEFINITE_OPERATOR),
        (CG(), np.eye(3) + 1, np.ones(3), torch.neg, Status.FAILED_INDEFINITE_PRECONDITIONER),
        (CG(), np.diag([1.0, 2.0, 3.0]), np.ones(3), torch.clone, None),
    ],
)
def test_ends_alike(iteration, matrix, b, precondition, failure):
    (one, solved, x), (other, done, y) = endings(iteration, matrix, b, precondition)
    assert one == other == failure
    assert solved == done == (failure is None)
    np.testing.assert_allclose(y, x, atol=1e-9)


def test_bicgstab_ends_in_the_middle_of_a_step_where_that_is_enough():
    b, products = torch.ones(1, 3, dtype=torch.float64), []
    operator = FunctionOperator(lambda v: products.append(1) or 2 * v, (3, 3))
    look = Look(1e-9, 10)
    progress = BiCGStab().ahead(Kernel(None, (), lambda *_: None), look, operator, b, torch.clone, 0 * b)
    start, last = next(progress), next(progress)
    assert float(start.residual) > 1 > 1e-15 > float(last.residual)
    assert len(products) == 1
    np.testing.assert_allclose(last.solution(), b / 2)


def test_bicgstab_goes_on_from_the_middle_of_a_step_as_if_begun_there():
    operator, b, look = as_operator(WINDY), torch.ones(1, N, dtype=torch.float64), Look(1.0, 99)
    progress = BiCGStab().ahead(Kernel(operator.compiled(), (), lambda *_: None), look, operator, b, torch.clone, 0 * b)
    next(progress)
    middle = next(progress).solution()
    look.level, look.steps = 0.0, 1
    other = [float(next(progress).residual) for _ in range(4)]
    fresh = itertools.islice(BiCGStab().iterate(operator, b, torch.clone, middle), 1, 5)
    np.testing.assert_allclose(other, [float(p.residual) for p in fresh], rtol=1e-7)


def test_bicgstab_begins_again_where_the_process_broke_down():
    """Of this system ``<s, r>`` or ``<s, A p>`` vanishes in the second step, and the residual does not."""
    operator = as_operator(scipy.sparse.csr_array([[-2.0, 0.0, 2.0], [-2.0, -1.0, -1.0], [1.0, 0.0, -2.0]]))
    b = torch.tensor([[0.0, 2.0, -2.0]], dtype=torch.float64)
    kernel = Kernel(operator.compiled(), (), lambda *_: None)
    ahead = itertools.islice(BiCGStab().ahead(kernel, Look(0.0, 1), operator, b, torch.clone, 0 * b), 5)
    found = [(float(p.residual), p.solution()) for p in ahead]
    single = [float(p.residual) for p in itertools.islice(BiCGStab().iterate(operator, b, torch.clone, 0 * b), 5)]
    np.testing.assert_allclose([size for size, _ in found], single, rtol=1e-7, atol=1e-12)
    again = itertools.islice(BiCGStab().iterate(operator, b, torch.clone, found[2][1]), 1, 3)
    np.testing.assert_allclose([float(p.residual) for p in again], single[3:], rtol=1e-7, atol=1e-12)
