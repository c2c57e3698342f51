"""Several iterations in one compiled call: the same iterates, history, work and endings as one at a time."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import scipy.sparse

import precond
from precond.core import Operator, Status
from precond.operators import as_operator
from tests.papers.linear_toys import poisson

rng = np.random.default_rng(11)
A, B = poisson(20), rng.standard_normal(400)


class Plain(Operator):
    """The same matrix, which offers no arrays to compiled loops."""

    def __init__(self, matrix):
        self.inner = as_operator(matrix)
        self.shape, self.dtype, self.device = self.inner.shape, self.inner.dtype, self.inner.device
        self.traits = self.inner.traits

    def matvec(self, x):
        return self.inner.matvec(x)

    def entries(self):
        return self.inner.entries()


@pytest.mark.parametrize("preconditioner", ["identity", "jacobi", "ic0", "ssor"])
@pytest.mark.parametrize("limit", [None, 0, 1, 7])
def test_is_what_single_steps_are(preconditioner, limit):
    start = rng.standard_normal(400)
    options = {"method": "cg", "preconditioner": preconditioner, "x0": start, "max_iterations": limit}
    fast = precond.solve(A, B, **options)
    slow = precond.solve(Plain(A), B, **options)
    assert (fast.iterations, fast.status) == (slow.iterations, slow.status)
    np.testing.assert_allclose(fast.history, slow.history, rtol=1e-6)
    np.testing.assert_allclose(fast.x, slow.x, rtol=1e-9, atol=1e-11)
    assert (fast.work.matvecs, fast.work.applies) == (slow.work.matvecs, slow.work.applies)


def test_a_callback_sees_every_iterate():
    seen = []
    result = precond.solve(
        A, B, method="cg", preconditioner="ic0", callback=lambda event: seen.append((event.residual, event.solution()))
    )
    assert len(seen) == result.iterations + 1
    for residual, x in seen:
        np.testing.assert_allclose(np.linalg.norm(B - A @ x), residual, rtol=1e-6, atol=1e-9)


def test_a_callback_stops_it():
    result = precond.solve(A, B, method="cg", preconditioner="ic0", callback=lambda event: event.iteration == 3)
    assert (result.status, result.iterations) == (Status.STOPPED_USER, 3)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals")
@pytest.mark.parametrize("preconditioner", ["identity", "ic0"])
def test_an_interrupt_returns_what_was_reached(preconditioner):
    def interrupt(*_):
        raise KeyboardInterrupt

    a, b = poisson(150), rng.standard_normal(22500)
    options = {"method": "cg", "preconditioner": preconditioner, "rtol": 1e-300, "max_iterations": 10**6}
    precond.solve(a, b, **options)  # compiles, all of it: an interrupt then would come before the run
    handler, result = signal.signal(signal.SIGALRM, interrupt), None
    try:
        for seconds in (0.05, 0.02, 0.1) * 3:
            try:
                signal.setitimer(signal.ITIMER_REAL, seconds)
                result = precond.solve(a, b, **options)
            except KeyboardInterrupt:  # the machine is busy: it came before the first iteration
                continue
            if result.status is Status.STOPPED_INTERRUPT:  # it did not come after the last one
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert result is not None
    assert result.status is Status.STOPPED_INTERRUPT
    left = np.linalg.norm(b - a @ result.x) / np.linalg.norm(b)
    np.testing.assert_allclose(result.certificate.value, left, rtol=1e-6)
    assert left < 1


@pytest.mark.parametrize("beside", [2.0, 1.0, -3.0])
def test_matrices_that_are_not_definite_end_alike(beside):
    matrix = scipy.sparse.csr_array(np.array([[1.0, beside, 0.0], [beside, 1.0, 0.5], [0.0, 0.5, 2.0]]))
    b = np.array([1.0, -2.0, 0.3])
    fast, slow = (
        precond.solve(operator, b, method="cg", preconditioner="identity") for operator in (matrix, Plain(matrix))
    )
    assert fast.status == slow.status
    assert fast.status is Status.FAILED_INDEFINITE_OPERATOR
    np.testing.assert_allclose(fast.x, slow.x, rtol=1e-9, atol=1e-12)


def test_single_precision_and_complex():
    b = B.astype(np.float32)
    single = precond.solve(A.astype(np.float32), b, method="cg", preconditioner="ic0", rtol=1e-4)
    assert single.converged
    assert single.x.dtype == np.float32
    phases = np.exp(1j * rng.random(400))
    matrix = scipy.sparse.csr_array(scipy.sparse.diags_array(phases) @ A @ scipy.sparse.diags_array(phases.conj()))
    result = precond.solve(matrix, B + 0j, method="cg", preconditioner="ic0")
    assert result.converged
    np.testing.assert_allclose(matrix @ result.x, B, atol=1e-6)


def test_an_operator_that_overrides_products_is_asked_for_them():
    calls = []

    class Counting(type(as_operator(A))):
        def matvec(self, x):
            calls.append(len(x))
            return super().matvec(x)

    result = precond.solve(Counting(A), B, method="cg", preconditioner="identity")
    assert result.converged
    assert len(calls) >= result.iterations
