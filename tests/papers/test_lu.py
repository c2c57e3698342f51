"""The complete factorization: exact for its own matrix, symmetric pattern or not, singular or not."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import Evidence, IncompatibleError
from precond.operators import as_operator
from precond.preconditioners.lu import LU
from tests.papers.linear_toys import poisson

rng = np.random.default_rng(41)
N = 30


def applied(a, v, adjoint=False):
    part, rows = LU(), torch.from_numpy(np.atleast_2d(v))
    state = part.init(rows)
    part.observe(state, Evidence(operator=as_operator(a)))
    health = part.refresh(state)
    return (part.apply_adjoint if adjoint else part.apply)(state, rows).numpy(), health


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("symmetric", [True, False])
def test_is_the_inverse_and_its_adjoint(kind, symmetric):
    dense = np.where(rng.random((N, N)) < 0.15, rng.standard_normal((N, N)), 0) + 3 * np.diag(rng.standard_normal(N))
    dense = dense + (1j * dense**2 if kind is complex else 0)
    dense = dense + dense.T if symmetric else dense
    v = rng.standard_normal((2, N)) + 0 * dense[0]
    np.testing.assert_allclose(applied(dense, v)[0], np.linalg.solve(dense, v.T).T, rtol=1e-8, atol=1e-9)
    expected = np.linalg.solve(dense.conj().T, v.T).T
    np.testing.assert_allclose(applied(dense, v, adjoint=True)[0], expected, rtol=1e-8, atol=1e-9)


def test_pivots_that_vanish_on_a_symmetric_pattern_are_avoided():
    a = scipy.sparse.csr_array(np.kron(np.eye(5), [[0.0, 1.0], [1.0, 0.0]]) + 1e-14 * np.eye(10))
    v = rng.standard_normal(10)
    np.testing.assert_allclose(applied(a, v)[0][0], np.linalg.solve(a.toarray(), v), rtol=1e-6)


def test_a_singular_matrix_is_shifted_and_it_is_said():
    _, health = applied(scipy.sparse.csr_array(np.diag([1.0, 2.0, 0.0])), np.ones(3))
    assert "added to the diagonal" in health.detail
    assert applied(poisson(4), np.ones(16))[1].detail == ""


def test_a_nearby_matrix_takes_few_iterations():
    a = poisson(12)
    skew = scipy.sparse.diags_array([-np.ones(143), np.ones(143)], offsets=[-1, 1])
    sequence = precond.SolveSequence(method="gmres", preconditioner=LU(), rtol=1e-9)
    assert sequence.solve(a, np.ones(144)).iterations == 1
    assert sequence.solve(a + 0.05 * skew, rng.standard_normal(144)).iterations <= 10


def test_refuses_shifts_and_operators_without_entries():
    part = LU()
    state = part.init(torch.ones(1, 3))
    with pytest.raises(IncompatibleError, match="shift"):
        part.apply(state, torch.ones(1, 3), shift=1.0)
    assert torch.equal(part.apply_adjoint(state, torch.ones(1, 3)), torch.ones(1, 3))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("symmetric", [True, False])
def test_sparse_factors_are_the_inverse_and_its_adjoint(kind, symmetric):
    a = scipy.sparse.random_array((N, N), density=0.1, rng=rng) + 3 * scipy.sparse.eye_array(N)
    a = scipy.sparse.csr_array((a + a.T if symmetric else a) * (1 + 1j if kind is np.complex128 else 1)).astype(kind)
    v = rng.standard_normal((2, N)).astype(kind)
    within = {"rtol": 1e-3, "atol": 1e-4} if kind is np.float32 else {"rtol": 1e-9, "atol": 1e-10}
    dense = a.toarray().astype(np.complex128)
    np.testing.assert_allclose(applied(a, v)[0], np.linalg.solve(dense, v.T).T, **within)
    np.testing.assert_allclose(applied(a, v, adjoint=True)[0], np.linalg.solve(dense.conj().T, v.T).T, **within)


def test_empty_rows_and_columns_are_not_handed_to_superlu(capfd):
    for axis in (0, 1):
        scales = np.array([1.0, 0.0, 1.0, 1.0])
        a = scipy.sparse.csr_array(np.diag([4.0] * 4) + np.ones((4, 4)))
        a = scipy.sparse.csr_array(scipy.sparse.diags_array(scales) @ a if axis == 0 else a * scales)
        a.eliminate_zeros()
        _, health = applied(a, np.ones(4))
        assert "added to the diagonal" in health.detail
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_lines_of_very_different_sizes_are_scaled_first():
    sizes = 10.0 ** rng.uniform(-140, 140, N)
    a = scipy.sparse.random_array((N, N), density=0.1, rng=rng) + 3 * scipy.sparse.eye_array(N)
    v = rng.standard_normal(N)
    expected = np.linalg.solve(a.toarray(), v)
    scaled = scipy.sparse.csr_array(scipy.sparse.diags_array(sizes) @ a)
    np.testing.assert_allclose(applied(scaled, sizes * v)[0][0], expected, rtol=1e-9)
    scaled = scipy.sparse.csr_array(a @ scipy.sparse.diags_array(sizes))
    np.testing.assert_allclose(sizes * applied(scaled, v)[0][0], expected, rtol=1e-9)


@pytest.mark.parametrize("kind", [float, complex])
def test_many_vectors_and_copies_are_solved_for_as_the_first_is(kind):
    """The first are SuperLU's, the rest are swept with triangles made from its factors, as are those of a copy."""
    a = poisson(12) + 0.3 * scipy.sparse.diags_array([np.ones(143)], offsets=[1]) * (1j if kind is complex else 1)
    part, rows = LU(), torch.from_numpy(rng.standard_normal((3, 144)).astype(a.dtype))
    state = part.init(rows)
    part.observe(state, Evidence(operator=as_operator(scipy.sparse.csr_array(a))))
    part.refresh(state)
    dense = a.toarray()
    expected = np.linalg.solve(dense, rows.numpy().T).T
    adjoint = np.linalg.solve(dense.conj().T, rows.numpy().T).T
    for _ in range(5):
        np.testing.assert_allclose(part.apply(state, rows).numpy(), expected, rtol=1e-10)
        np.testing.assert_allclose(part.apply_adjoint(state, rows).numpy(), adjoint, rtol=1e-10)
    copied = pickle.loads(pickle.dumps(dataclasses.replace(state, operator=None)))
    np.testing.assert_allclose(part.apply(copied, rows).numpy(), expected, rtol=1e-10)
