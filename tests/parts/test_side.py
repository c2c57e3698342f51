"""Vectors side by side: products, sweeps and updates agree with those of rows, and with NumPy."""

from __future__ import annotations

import types

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.krylov import CG, BlockCG
from precond.math.krylov import side
from precond.math.krylov.blocks import combine, gram
from precond.math.sparse.products import rows_times_csr, unsigned
from precond.math.sparse.sweeps import two_sweeps
from precond.operators import as_operator
from precond.preconditioners.ic0 import IC0
from tests.papers.linear_toys import poisson

rng = np.random.default_rng(3)
COUNTS = [1, 2, 4, 5, 8, 13, 16, 31]


def beside(x: np.ndarray) -> np.ndarray:
    """Return the same batch with its vectors side by side."""
    return np.asfortranarray(x)


def test_the_loops_compile_here():
    assert side.available()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_products(count, dtype):
    band = scipy.sparse.diags_array(rng.random((3, 700)), offsets=[-70, 0, 33], shape=(700, 700))
    for matrix in (scipy.sparse.random_array((65, 129), density=0.1, rng=rng), band, scipy.sparse.eye_array(1)):
        csr = scipy.sparse.csr_array(matrix).astype(dtype)
        x = rng.standard_normal((count, csr.shape[1])).astype(dtype)
        for vectors in (x, beside(x)):
            found = rows_times_csr(unsigned(csr), vectors)
            np.testing.assert_allclose(found, (csr @ x.T).T, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6)
            assert side.is_side(found) == side.is_side(vectors) or csr.shape[0] == 1


@pytest.mark.parametrize("count", COUNTS)
def test_sweeps_and_the_way_there_and_back(count):
    n = 77
    x = rng.standard_normal((count, n))
    lower, upper = (
        (csr.indptr.astype(np.uint32), csr.indices.astype(np.uint32), csr.data, rng.random(n) * mask)
        for csr, mask in (
            (scipy.sparse.csr_array(scipy.sparse.tril(poisson(11)[:n, :n], -2)), np.arange(n) > 0),
            (scipy.sparse.csr_array(scipy.sparse.triu(poisson(11)[:n, :n], 2)), np.arange(n) < n - 1),
        )
    )
    scales = rng.random(n), rng.random(n), rng.random(n)
    alone = np.concatenate([two_sweeps(lower, upper, scales, row[None]) for row in x])
    for vectors in (x, beside(x)):
        np.testing.assert_allclose(two_sweeps(lower, upper, scales, vectors), alone, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(side.joined(x), x)
    if count > 1:
        np.testing.assert_array_equal(side.apart(beside(x)), x)


@pytest.mark.parametrize("sizes", [(16, 16), (10, 16), (3, 5), (16, 9), (1, 2)])
def test_products_of_vectors_with_each_other(sizes):
    h, w = sizes
    for n in (1, 7, 8, 203):
        x, y = (torch.from_numpy(rng.standard_normal((n, k))).mT for k in sizes)
        torch.testing.assert_close(gram(x, y), x @ y.mT)
        factors, out = torch.from_numpy(rng.standard_normal((h, w))), y.clone()
        combine(x, factors, out)
        torch.testing.assert_close(out, y + factors.mT @ x)


@pytest.mark.parametrize("method", [CG(), BlockCG()])
@pytest.mark.parametrize("preconditioner", ["identity", "jacobi", "ic0", "ssor"])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_iterations_keep_what_they_are_given(method, preconditioner, count):
    matrix, b = poisson(15), rng.standard_normal((225, count))
    start = rng.standard_normal(b.shape)
    result = precond.solve(matrix, b, method=method, preconditioner=preconditioner, x0=start)
    assert result.converged
    assert np.linalg.norm(b - matrix @ result.x, axis=0).max() <= 1e-8 * np.linalg.norm(b, axis=0).max()
    exact = precond.solve(matrix, matrix @ start, method=method, preconditioner=preconditioner, x0=start)
    assert exact.converged
    assert exact.iterations == 0


def test_matrices_without_entries_and_with_long_indices():
    for count in COUNTS:
        x = rng.standard_normal((count, 70))
        empty = scipy.sparse.csr_array((66, 70))
        assert not rows_times_csr(unsigned(empty), beside(x)).any()
        assert not rows_times_csr(unsigned(empty), x).any()
        csr = scipy.sparse.csr_array(scipy.sparse.random_array((66, 70), density=0.1, rng=rng))
        long = csr.indptr.astype(np.uint64), csr.indices.astype(np.uint64), csr.data
        for vectors in (x, beside(x)):
            np.testing.assert_allclose(rows_times_csr(long, vectors), (csr @ x.T).T, atol=1e-13)
    nothing, some = torch.empty(20, 0, dtype=torch.float64).mT, torch.ones(20, 8, dtype=torch.float64).mT
    assert gram(nothing, some).shape == (0, 8)
    out = some.clone()
    combine(nothing, torch.empty(0, 8, dtype=torch.float64), out)
    torch.testing.assert_close(out, some)


@pytest.fixture
def _no_loops(monkeypatch):
    def fail(*arguments):
        raise AttributeError("this compiler has no such vectors")

    side.available.cache_clear()
    names = ("join", "part", "times", "times_rows", "two_sweeps", "dots", "advance", "turn", "gram", "combine")
    monkeypatch.setattr(side, "_kernels", lambda: types.SimpleNamespace(**dict.fromkeys(names, fail)))
    yield
    side.available.cache_clear()


@pytest.mark.usefixtures("_no_loops")
@pytest.mark.parametrize("method", [CG(), BlockCG()])
@pytest.mark.parametrize("preconditioner", ["identity", "ic0", IC0(domains=2)])
def test_without_the_loops_vectors_stay_rows(method, preconditioner, caplog):
    matrix, b = poisson(15), np.asfortranarray(rng.standard_normal((225, 9)))
    for right in (b, np.ascontiguousarray(b)):
        result = precond.solve(matrix, right, method=method, preconditioner=preconditioner)
        assert result.converged
        np.testing.assert_allclose(matrix @ result.x, b, atol=1e-6)
    assert sum("rows" in record.message for record in caplog.records) == 1


def test_complex_systems_stay_rows():
    matrix = poisson(9).astype(complex)
    b = rng.standard_normal((81, 6)) + 1j * rng.standard_normal((81, 6))
    assert not as_operator(matrix).side_by_side
    result = precond.solve(matrix, b, method="cg", preconditioner="ic0")
    assert result.converged
    np.testing.assert_allclose(matrix @ result.x, b, atol=1e-5)
