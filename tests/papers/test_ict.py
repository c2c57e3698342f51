"""Incomplete Cholesky with a threshold against a dense loop, its limits, its shift, and its headline."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import BadInputError, IncompatibleError
from precond.preconditioners.ic0 import IC0
from precond.preconditioners.ict import ICT
from tests.papers.linear_toys import poisson
from tests.papers.test_ic0 import sparse_spd
from tests.papers.test_jacobi import ready

rng = np.random.default_rng(8)


def factor(a, drop, fill, shift=0.0):
    """Return the factor of a dense matrix, column by column, dropping as documented."""
    n = len(a)
    low = np.zeros_like(a)
    for j in range(n):
        w = a[j:, j] - low[j:, :j] @ low[j, :j].conj()
        bound = drop * np.linalg.norm(a[j:, j])
        pivot = w[0].real + shift
        assert pivot > 0
        rest = [i for i in range(1, n - j) if abs(w[i]) > bound]
        rest.sort(key=lambda i: -abs(w[i]))
        for i in rest[: int((a[j + 1 :, j] != 0).sum()) + fill]:
            low[j + i, j] = w[i] / np.sqrt(pivot)
        low[j, j] = np.sqrt(pivot)
    return low


def dense(a, drop, fill, shift=0.0):
    s = np.diag(1 / np.sqrt(np.diag(a).real))
    low = factor(s @ a @ s, drop, fill, shift)
    return s @ np.linalg.inv(low @ low.conj().T) @ s


@pytest.mark.parametrize(("drop", "fill"), [(0.0, 100), (0.01, 2), (0.05, 10), (0.0, 0), (0.3, 1)])
@pytest.mark.parametrize("kind", [np.float64, np.complex128])
def test_equals_the_dense_loop(drop, fill, kind):
    a = sparse_spd(17, kind is np.complex128)
    part = ICT(drop=drop, fill=fill)
    state, health = ready(part, a)
    v = rng.standard_normal((2, 17)).astype(kind)
    assert health.detail == ""
    applied = part.apply(state, torch.from_numpy(v)).numpy()
    np.testing.assert_allclose(applied, v @ dense(a, drop, fill).T, rtol=1e-10, atol=1e-12)


def test_without_dropping_it_is_exact():
    a = sparse_spd(25)
    state, _ = ready(ICT(drop=0.0, fill=25), a)
    v = rng.standard_normal((2, 25))
    np.testing.assert_allclose(
        ICT(drop=0.0, fill=25).apply(state, torch.from_numpy(v)), np.linalg.solve(a, v.T).T, rtol=1e-9
    )


def test_the_number_of_entries_is_limited():
    a = poisson(25)
    state, _ = ready(ICT(drop=0.0, fill=3), a)
    lower = scipy.sparse.tril(a, -1)
    assert state.lower[2].size + np.count_nonzero(state.lower[3]) <= lower.nnz + 3 * 625


def test_shifts_when_a_pivot_is_not_positive_and_says_so():
    a = np.array([[1.0, 2.0], [2.0, 1.0]])
    state, health = ready(ICT(first_shift=0.3), a)
    assert state.shift == pytest.approx(1.2)  # 0.3 and 0.6 are not enough
    assert "1.2" in health.detail
    p = ICT().apply(state, torch.eye(2, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(p, np.linalg.inv(a + 1.2 * np.eye(2)), rtol=1e-12)
    result = precond.solve(a, np.ones(2), method="minres", preconditioner="ict")
    assert result.converged
    assert "shifted" in result.method


def test_stays_definite_for_an_indefinite_matrix():
    a = sparse_spd(10) - 6 * np.eye(10)
    a[3, 3] = 0
    state, _ = ready(ICT(), a)
    p = ICT().apply(state, torch.eye(10, dtype=torch.float64)).numpy()
    assert np.linalg.eigvalsh((p + p.T) / 2).min() > 0


def test_refuses_settings_and_matrices_that_make_no_sense():
    with pytest.raises(BadInputError, match="drop"):
        ICT(drop=1.0)
    with pytest.raises(IncompatibleError, match="symmetric"):
        ready(ICT(), np.triu(np.ones((3, 3))))


def test_fewer_iterations_than_without_fill():
    """The paper's headline, on the five-point Laplacian."""
    a, b = poisson(60), rng.standard_normal(3600)
    counts = {
        name: precond.solve(a, b, method="cg", preconditioner=part).iterations
        for name, part in (("ict", ICT()), ("ic0", IC0()))
    }
    assert 2 * counts["ict"] < counts["ic0"]
