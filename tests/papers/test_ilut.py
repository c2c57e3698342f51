"""ILUT: the factors, the permutations, the adjoint, and what happens to singular matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import precond
from precond.core import BadInputError
from precond.preconditioners.ilut import ILUT
from tests.papers.linear_toys import poisson
from tests.papers.test_jacobi import ready

rng = np.random.default_rng(12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex128])
def test_is_the_inverse_when_nothing_is_dropped(dtype):
    a = (rng.standard_normal((15, 15)) * (rng.random((15, 15)) < 0.4)).astype(dtype)
    a = a + np.diag(np.full(15, 0.5)) * (1 + 2j if dtype is np.complex128 else 1)
    a = np.diag(np.logspace(0, 3, 15)).astype(dtype) @ a.astype(dtype)
    part = ILUT(drop_tolerance=0.0, fill=100.0)
    state, health = ready(part, a)
    v = rng.standard_normal((2, 15)).astype(dtype)
    tolerance = 1e-3 if dtype is np.float32 else 1e-10
    applied, adjoint = part.apply(state, torch.from_numpy(v)), part.apply_adjoint(state, torch.from_numpy(v))
    assert applied.numpy().dtype == dtype
    np.testing.assert_allclose(applied.numpy(), np.linalg.solve(a, v.T).T, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(adjoint.numpy(), np.linalg.solve(a.conj().T, v.T).T, rtol=tolerance, atol=tolerance)
    assert health.detail == ""


def test_is_superlus_factorization_of_the_scaled_matrix():
    a = scipy.sparse.csr_array(poisson(8) + 0.8 * scipy.sparse.diags_array([np.ones(63)], offsets=[1]))
    rows = 1 / abs(a).max(axis=1).toarray().ravel()
    columns = 1 / (scipy.sparse.diags_array(rows) @ abs(a)).max(axis=0).toarray().ravel()
    scaled = scipy.sparse.diags_array(rows) @ a @ scipy.sparse.diags_array(columns)
    lu = scipy.sparse.linalg.spilu(scipy.sparse.csc_array(scaled), drop_tol=0.05, fill_factor=3)
    part = ILUT(drop_tolerance=0.05, fill=3.0)
    state, _ = ready(part, a, batch=1)
    v = rng.standard_normal(64)
    applied = part.apply(state, torch.from_numpy(v)[None]).numpy()[0]
    np.testing.assert_allclose(applied, columns * lu.solve(rows * v), rtol=1e-9)
    assert np.linalg.norm(a @ applied - v) > 1e-3 * np.linalg.norm(v), "a threshold of 0.05 must drop something"


def test_smaller_thresholds_need_fewer_iterations():
    a = scipy.sparse.csr_array(poisson(20) + 0.9 * scipy.sparse.diags_array([np.ones(399)], offsets=[1]))
    counts = [
        precond.solve(a, np.ones(400), method="gmres", preconditioner=ILUT(drop_tolerance=t)).iterations
        for t in (0.3, 1e-2, 1e-4)
    ]
    assert counts[0] > counts[1] > counts[2]


def test_solves_what_has_no_diagonal():
    n = 30
    a = np.zeros((n, n))
    a[np.arange(n), rng.permutation(n)] = rng.standard_normal(n) + 3
    a += 0.1 * rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.1)
    np.fill_diagonal(a, 0)
    result = precond.solve(scipy.sparse.csr_array(a), a @ np.ones(n))
    assert result.converged
    np.testing.assert_allclose(result.x, np.ones(n), rtol=1e-6)


def test_a_singular_matrix_is_reported():
    state, health = ready(ILUT(), np.array([[1.0, 2.0], [2.0, 4.0]]))
    assert "diagonal" in health.detail
    assert torch.isfinite(ILUT().apply(state, torch.ones(2, 2, dtype=torch.float64))).all()


@pytest.mark.parametrize("settings", [{"drop_tolerance": -0.1}, {"drop_tolerance": 1.0}, {"fill": 0.5}])
def test_refuses_what_makes_no_sense(settings):
    with pytest.raises(BadInputError, match="ilut"):
        ILUT(**settings)
