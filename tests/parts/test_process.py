"""The Arnoldi process in cycles that keep directions: compiled, step by step, and as the equation that defines it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse
import torch

from precond.core import Kernel, Look, Status
from precond.krylov import GCRODR, gcrodr
from precond.krylov.deflated import Directions
from precond.krylov.process import Compiled, Stepwise
from precond.math.krylov.arnoldi import combined
from precond.math.krylov.cycle import Arnoldi
from precond.operators import as_operator
from tests.papers.linear_toys import poisson

N = 81
rng = np.random.default_rng(3)
WINDY = scipy.sparse.csr_array(poisson(9) + scipy.sparse.diags_array([np.full(N - 1, 0.6)], offsets=[1]))
TURNED = scipy.sparse.csr_array(WINDY + 0.3j * scipy.sparse.diags_array(rng.random(N)))
B = torch.from_numpy(rng.standard_normal(N))[None]
HALF = torch.from_numpy(1 / WINDY.diagonal())


def progress_of(matrix, precondition, kernel, memories, steps=25):
    """Return what GCRO-DR does with a system, and with a second one that begins with what the first has left."""
    operator, iteration = as_operator(matrix), GCRODR(10, 4)
    b = B.to(operator.dtype)
    memory, found = memories, []
    for right in (b, b.flip(1)):
        arguments = operator, right, precondition, torch.zeros_like(right)
        running = (
            iteration.recycle(memory, *arguments)
            if kernel is None
            else iteration.recycle_ahead(memory, kernel, Look(), *arguments)
        )
        found += [(float(p.residual), p.solution()) for p in itertools.islice(running, steps)]
    return found


@pytest.mark.parametrize("matrix", [WINDY, TURNED], ids=["real", "complex"])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_compiled_steps_are_single_ones(matrix, preconditioned, monkeypatch):
    precondition = (lambda v: v * HALF.to(v.dtype)) if preconditioned else (lambda v: v)
    operator = as_operator(matrix)
    kernel = Kernel(operator.compiled(), None if preconditioned else (), lambda *_: None)
    compiled = [progress_of(matrix, precondition, known, GCRODR(10, 4).memory()) for known in (None, kernel)]
    monkeypatch.setattr(gcrodr, "Compiled", lambda size, operator, b, precondition, *_: Stepwise(
        size, operator, b, precondition))  # fmt: skip
    single = progress_of(matrix, precondition, None, GCRODR(10, 4).memory())
    for other in compiled:
        assert len(other) == len(single) == 50
        for (residual, x), (known, y) in zip(other, single, strict=True):
            assert residual == pytest.approx(known, rel=1e-6)
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [Compiled, Stepwise])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_a_cycle_holds_its_equation_also_after_a_longer_one(kind, dtype):
    a = torch.from_numpy((WINDY if dtype is torch.float64 else TURNED).toarray())
    b, halves = B.to(dtype), HALF.to(dtype)
    process = kind(8, as_operator(a), b, lambda v: v * halves)
    kept = Directions.none(b)
    for _ in range(3):
        cycle = process.begin(kept, b - (b @ kept.c.mH) @ kept.c, float((b - (b @ kept.c.mH) @ kept.c).norm()))
        for _ in process.steps(cycle):
            pass
        k, j = len(kept.u), cycle.done
        assert k + j == 8
        g = torch.from_numpy(np.array(cycle.g[: k + j + 1, :j]))
        np.testing.assert_allclose((cycle.z[:j] @ a.mT), g.mT @ cycle.w[: k + j + 1], atol=1e-12)
        np.testing.assert_allclose(
            cycle.w[: k + j + 1].conj() @ cycle.w[: k + j + 1].mT, torch.eye(k + j + 1), atol=1e-12
        )
        kept = cycle.deflated(3)
        np.testing.assert_allclose(kept.u @ a.mT, kept.c, atol=1e-11)
        np.testing.assert_allclose(kept.t * halves, kept.u, atol=1e-12)


def test_from_the_left_the_process_is_that_of_the_product():
    m = np.diag(1 / WINDY.diagonal())
    product = m @ WINDY.toarray()
    arnoldi = Arnoldi(6, N, float, WINDY.__matmul__, lambda v: m @ v, left=True)
    first = np.arange(N) + 1.0
    arnoldi.begin(0, first, float(np.linalg.norm(first)))
    norms = arnoldi.run(0.0, 6)
    v, y = arnoldi.vectors[:6], arnoldi.minimizer()
    np.testing.assert_allclose(product @ v.T, arnoldi.vectors[:7].T @ arnoldi.coefficients(), atol=1e-12)
    best = np.linalg.lstsq(product @ v.T, first, rcond=None)[0]
    np.testing.assert_allclose(y, best, rtol=1e-8)
    assert norms[-1] == pytest.approx(np.linalg.norm(first - product @ v.T @ best), rel=1e-10)


def test_a_space_that_is_exhausted_ends_the_process():
    a, b = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)), torch.ones(1, 3, dtype=torch.float64)
    for matrix, status in ((a, None), (a * torch.tensor([1.0, 0.0, 1.0]), Status.FAILED_BREAKDOWN)):
        steps = list(GCRODR(10, 4).iterate(as_operator(matrix), b, lambda v: v, torch.zeros_like(b)))
        assert (steps[-1].failure, steps[-1].solved) == (status, status is None)
    assert len(steps) == 4


def test_a_restart_needs_no_product():
    products = []
    operator = as_operator(WINDY)
    inner = operator.matvec
    operator.matvec = lambda v: products.append(len(v)) or inner(v)
    list(itertools.islice(GCRODR(10, 4).iterate(operator, B, torch.clone, torch.zeros_like(B)), 41))
    assert sum(products) == 40


def test_a_restart_takes_from_the_residual_what_rounding_put_along_the_images():
    process = Compiled(8, as_operator(WINDY), B, torch.clone)
    cycle = process.begin(Directions.none(B), B, float(B.norm()))
    for _ in process.steps(cycle):
        pass
    rest = np.arange(9.0)
    kept, step, left = cycle.restarted(3, np.ones(8), rest)
    along = (torch.from_numpy(rest) @ cycle.w) @ kept.c.mT
    assert float(along.norm()) > 0.1
    np.testing.assert_allclose(left, torch.from_numpy(rest) @ cycle.w - along @ kept.c, atol=1e-12)
    np.testing.assert_allclose(step, cycle.z[:8].sum(0), atol=1e-12)


@pytest.mark.parametrize("count", [1, 4, 6, 9])
@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_combinations_are_the_product_of_matrices(count, dtype):
    rng = np.random.default_rng(count)
    parts = [rng.standard_normal((some, 700)).astype(dtype) for some in (0, 3, 10)]
    factors = rng.standard_normal((count, 13)) * (1 if dtype is np.float32 else 1j)
    found = combined(factors, *map(torch.from_numpy, parts)).numpy()
    assert found.dtype == dtype
    np.testing.assert_allclose(found, factors @ np.vstack(parts), rtol=0, atol=20 * np.finfo(dtype).eps * 13)
