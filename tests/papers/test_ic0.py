"""IC(0) against a dense loop, its shift, and its headline."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import Evidence, IncompatibleError
from precond.operators import FunctionOperator, as_operator
from precond.preconditioners.ic0 import IC0
from tests.papers.linear_toys import poisson
from tests.papers.test_jacobi import ready

rng = np.random.default_rng(7)
# Kershaw's matrix: positive definite, but its incomplete factorization has a negative pivot
kershaw = np.array([[3.0, -2, 0, 2], [-2, 3, -2, 0], [0, -2, 3, -2], [2, 0, -2, 3]])


def factor(a, shift=0.0):
    """Return the IC(0) factor of a dense matrix by the column loop: Cholesky that forgets fill."""
    low = np.tril(a + shift * np.eye(len(a)))
    pattern = low != 0
    for k in range(len(a)):
        low[k, k] = np.sqrt(low[k, k].real)
        for i in range(k + 1, len(a)):
            low[i, k] = low[i, k] / low[k, k] if pattern[i, k] else 0
        for j in range(k + 1, len(a)):
            for i in range(j, len(a)):
                if pattern[i, j]:
                    low[i, j] -= low[i, k] * np.conj(low[j, k])
    return low


def dense(a, shift=0.0):
    s = np.diag(1 / np.sqrt(np.diag(a).real))
    low = factor(s @ a @ s, shift)
    return s @ np.linalg.inv(low @ low.conj().T) @ s


def sparse_spd(n, complex_=False):
    g = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.3)
    g = g + 1j * rng.standard_normal((n, n)) * (g != 0) if complex_ else g
    a = g + g.conj().T
    return a + np.diag(np.abs(a).sum(axis=1) + rng.random(n))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.complex128])
def test_equals_the_dense_loop(kind):
    a = sparse_spd(14, kind is np.complex128).astype(kind)
    state, health = ready(IC0(), a)
    v = rng.standard_normal((2, 14)).astype(kind)
    applied = IC0().apply(state, torch.from_numpy(v)).numpy()
    assert applied.dtype == kind
    assert health.detail == ""
    np.testing.assert_allclose(applied, v @ dense(a).T, rtol=1e-3 if kind is np.float32 else 1e-10, atol=1e-6)


def test_is_exact_where_nothing_fills_in():
    a = scipy.sparse.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(30, 30)).tocsr()
    state, _ = ready(IC0(), a)
    v = rng.standard_normal((2, 30))
    np.testing.assert_allclose(IC0().apply(state, torch.from_numpy(v)), np.linalg.solve(a.toarray(), v.T).T, rtol=1e-11)


def test_shifts_when_a_pivot_is_not_positive_and_says_so():
    assert np.linalg.eigvalsh(kershaw).min() > 0
    with pytest.warns(RuntimeWarning, match="sqrt"):
        assert np.isnan(factor(kershaw / 3)).any()
    state, health = ready(IC0(), kershaw)
    assert state.shift > 0
    assert f"{state.shift:g}" in health.detail
    v = rng.standard_normal((2, 4))
    np.testing.assert_allclose(IC0().apply(state, torch.from_numpy(v)), v @ dense(kershaw, state.shift).T, rtol=1e-10)
    result = precond.solve(kershaw, np.ones(4), method="cg", preconditioner="ic0")
    assert result.converged
    assert "shifted" in result.method


@pytest.mark.parametrize("first", [1e-3, 1.5e-3, 2e-3, 3e-3])
def test_the_shift_is_the_first_of_the_sequence_that_works(first):
    state, _ = ready(IC0(first_shift=first), kershaw)
    assert np.log2(state.shift / first) == pytest.approx(round(np.log2(state.shift / first)))
    assert np.isfinite(factor(kershaw / 3, state.shift)).all()
    with pytest.warns(RuntimeWarning, match="sqrt"):
        assert np.isnan(factor(kershaw / 3, state.shift / 2)).any()
    again = IC0(first_shift=first).refresh(state)
    assert "shifted" in again.detail


def test_stays_definite_for_an_indefinite_matrix():
    a = sparse_spd(10) - 6 * np.eye(10)
    a[3, 3] = 0
    state, _ = ready(IC0(), a)
    p = IC0().apply(state, torch.eye(10, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(p, p.T, atol=1e-10)
    assert np.linalg.eigvalsh(p).min() > 0


def test_a_stored_zero_on_the_diagonal_is_a_place_for_the_pivot():
    a = scipy.sparse.csr_array((np.array([0.0, 1.0, 1.0, 3.0]), ([0, 0, 1, 1], [0, 1, 0, 1])), shape=(2, 2))
    state, _ = ready(IC0(), a)
    assert torch.isfinite(IC0().apply(state, torch.ones(1, 2, dtype=torch.float64))).all()


def test_refuses_products_alone_and_matrices_that_are_not_symmetric():
    state = IC0().init(torch.zeros(1, 3))
    with pytest.raises(IncompatibleError, match="entries"):
        IC0().observe(state, Evidence(operator=FunctionOperator(torch.clone, (3, 3), symmetric=True)))
    with pytest.raises(IncompatibleError, match="symmetric"):
        IC0().observe(state, Evidence(operator=as_operator(np.triu(np.ones((3, 3))))))


def test_cuts_the_iterations_of_cg_on_an_elliptic_problem():
    """The paper's headline: a third of the iterations or fewer on the five-point Laplacian."""
    a, b = poisson(50), rng.standard_normal(2500)
    counts = {p: precond.solve(a, b, method="cg", preconditioner=p).iterations for p in ("ic0", "identity")}
    assert counts["ic0"] * 2.5 < counts["identity"]
