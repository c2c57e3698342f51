"""Dense least squares by orthogonal factors: any shape, any rank, against the pseudoinverse."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

import precond
from precond.core import IncompatibleError
from precond.math.dense.orthogonal_factors import orthogonal_factors


def _matrix(shape, rank, kind, condition=10.0):
    rng = np.random.default_rng(sum(shape) + rank)
    left, right = rng.standard_normal((shape[0], rank)), rng.standard_normal((rank, shape[1]))
    if kind is complex:
        left, right = left + 1j * rng.standard_normal(left.shape), right + 1j * rng.standard_normal(right.shape)
    left, right = np.linalg.qr(left)[0], np.linalg.qr(right.conj().T)[0].conj().T
    return (left * np.geomspace(1, 1 / condition, rank)) @ right, rng


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize(
    ("shape", "rank"), [((30, 7), 7), ((7, 30), 7), ((9, 9), 9), ((30, 7), 3), ((7, 30), 3), ((9, 9), 4)]
)
def test_solution_is_that_of_the_pseudoinverse(shape, rank, kind):
    matrix, rng = _matrix(shape, rank, kind)
    b = rng.standard_normal((shape[0], 2)).astype(kind)
    result = precond.lstsq(matrix, b)
    assert result.converged
    assert result.method.startswith("lsqr + qr (dense")
    assert ("the rank is" in result.method) == (rank < min(shape))
    np.testing.assert_allclose(result.x, np.linalg.pinv(matrix, rcond=1e-10) @ b, atol=1e-12)
    inverse = np.linalg.pinv(matrix.conj().T @ matrix, rcond=1e-10)
    v = rng.standard_normal((shape[1], 3)).astype(kind)
    factors = orthogonal_factors(matrix)
    np.testing.assert_allclose(factors.inverse_gram(v), inverse @ v, atol=1e-9)
    shifted = np.linalg.inv(matrix.conj().T @ matrix + 0.3 * np.eye(shape[1]))
    np.testing.assert_allclose(factors.inverse_shifted_gram(v, 0.3), shifted @ v, atol=1e-12)


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (300, 6)])
def test_ill_conditioned_problems_are_solved_as_by_lapack(shape):
    matrix, rng = _matrix(shape, min(shape), float, 1e10)
    b = matrix @ rng.standard_normal(shape[1]) + 1e-3 * rng.standard_normal(shape[0])
    result, theirs = precond.lstsq(matrix, b), np.linalg.lstsq(matrix, b, rcond=None)[0]
    assert result.converged
    assert np.linalg.norm(b - matrix @ result.x) <= (1 + 1e-9) * np.linalg.norm(b - matrix @ theirs) + 1e-12
    assert result.certificate.extra["backward error"] <= 1e-8  # estimated, or bounded from above
    if shape[0] < shape[1]:
        assert np.linalg.norm(result.x) <= (1 + 1e-4) * np.linalg.norm(theirs)


def test_columns_of_any_size_count_as_independent():
    matrix, rng = _matrix((30, 5), 5, float)
    sizes = np.array([1e-30, 1.0, 1e20, 1e-5, 1e10])
    x = rng.standard_normal(5)
    factors = orthogonal_factors(matrix * sizes)
    assert factors.rank == 5
    np.testing.assert_allclose(factors.solve((matrix @ x)[:, None])[:, 0] * sizes, x, rtol=1e-10)


def test_gradients_flow_through_the_factors():
    matrix, rng = _matrix((20, 4), 4, float)
    A, b = (torch.from_numpy(a).requires_grad_() for a in (matrix, rng.standard_normal(20)))
    assert torch.autograd.gradcheck(lambda a, c: precond.lstsq(a, c, rtol=1e-12).x, (A, b))


def test_long_problems_keep_their_sketch_but_for_many_right_hand_sides():
    rng = np.random.default_rng(0)
    long, several = rng.standard_normal((30_000, 90)), rng.standard_normal((30_000, 3))
    single, many = precond.lstsq(long, several[:, 0]), precond.lstsq(long, several)
    assert single.converged
    assert many.converged
    assert "sketch-qr" in single.method
    assert "lsqr + qr" in many.method
    np.testing.assert_allclose(many.x[:, 0], single.x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(300, 20), (30, 30), (20, 150)])
@pytest.mark.parametrize("kind", [np.float32, np.complex64])
def test_single_precision_is_factored_in_double(shape, kind):
    rng, least = np.random.default_rng(1), min(shape)
    left, right = (np.linalg.qr(rng.standard_normal((size, least)))[0] for size in shape)
    matrix = (left * np.logspace(0, -4, least) @ right.T).astype(kind)
    exact = rng.standard_normal(shape[1]).astype(kind)
    b = (matrix @ exact + (shape[0] > least) * rng.standard_normal(shape[0])).astype(kind)
    result = precond.lstsq(matrix, b, rtol=1e-7)
    wide = matrix.astype(complex)
    expected = np.linalg.lstsq(wide, b.astype(complex), rcond=None)[0]
    assert result.converged
    assert result.x.dtype == kind
    assert "lsqr + qr" in result.method
    assert np.linalg.norm(result.x - expected) <= 1e-6 * np.linalg.norm(expected)  # their own would be off by 1e-3


def test_the_rank_of_what_was_rounded_to_single_precision_is_found():
    rng = np.random.default_rng(2)
    matrix = (rng.standard_normal((200, 6)) @ rng.standard_normal((6, 30))).astype(np.float32)
    result = precond.lstsq(matrix, rng.standard_normal(200).astype(np.float32), rtol=1e-5)
    assert result.converged
    assert "the rank is 6 of 30" in result.method
    assert np.linalg.norm(result.x) < 1


@pytest.mark.parametrize("decades", [0, 3, 6])
def test_wide_problems_of_any_condition_get_the_solution_of_least_norm(decades):
    rng, m, n = np.random.default_rng(3), 330, 4000  # more work than is small, and more columns than twelve a row
    left, right = (np.linalg.qr(rng.standard_normal((size, m)))[0] for size in (m, n))
    b = left @ (np.logspace(0, -decades, m) * rng.standard_normal(m))
    result = precond.lstsq(left * np.logspace(0, -decades, m) @ right.T, b)
    expected = right @ (np.logspace(0, decades, m) * (left.T @ b))
    assert result.converged
    assert np.linalg.norm(result.x - expected) <= 1e-7 * np.linalg.norm(expected)


def test_sparse_matrices_are_written_out_and_what_is_known_by_products_is_refused():
    sparse, ones = torch.eye(6, dtype=torch.float64).to_sparse_csr(), torch.ones(6, dtype=torch.float64)
    assert bool((precond.lstsq(sparse, ones, method="lsqr", preconditioner="qr").x == 1).all())
    products = scipy.sparse.linalg.aslinearoperator(np.eye(6))
    with pytest.raises(IncompatibleError, match="sketch-qr"):
        precond.lstsq(products, ones, method="lsqr", preconditioner="qr")


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-150, 1e150, 1e200, 1e300])
@pytest.mark.parametrize("shape", [(30, 5), (5, 30)])
def test_matrices_of_any_size_are_solved_and_certified(shape, size):
    matrix, rng = _matrix(shape, 5, float)
    b = rng.standard_normal(shape[0])
    result = precond.lstsq(matrix * size, b * size)
    assert result.converged
    np.testing.assert_allclose(result.x, np.linalg.pinv(matrix) @ b, rtol=1e-10, atol=1e-12)


def test_a_matrix_whose_products_vanish_is_not_claimed_solved():
    matrix, rng = _matrix((30, 5), 5, float)
    result = precond.lstsq(matrix * 1e-310, rng.standard_normal(30))
    assert not (result.converged and not result.x.any())
