"""One pass over a dense matrix makes what two products make."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg

import precond.scipy
from precond.math.dense import tall

_types = [(np.float64, np.float64), (np.float32, np.float64), (np.float32, np.float32)]


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (1030, 6), (3, 9), (2601, 101)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("kind", "dtype"), _types)
def test_one_pass_is_two_products(shape, order, kind, dtype):
    rng = np.random.default_rng(0)
    matrix = np.array(rng.standard_normal(shape), kind, order=order)
    x, u = rng.standard_normal(shape[1]).astype(dtype), rng.standard_normal(shape[0]).astype(dtype)
    wide = matrix.astype(float)
    image = 0.3 * (wide @ x) - u
    again = u.copy()
    product = tall.there_and_back(matrix, x, 0.3, again)
    tolerance = 200 * np.finfo(dtype).eps
    assert product.dtype == again.dtype == dtype
    np.testing.assert_allclose(again, image, rtol=0, atol=tolerance * np.abs(image).max())
    expected = wide.T @ again.astype(float)
    scale = np.linalg.norm(wide) * np.linalg.norm(again)
    np.testing.assert_allclose(product, expected, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(tall.adjoint_times(matrix, u), wide.T @ u, rtol=0, atol=tolerance * scale)


def test_only_contiguous_real_matrices_are_passed_once():
    matrix = np.ones((6, 4))
    assert tall.passes_once(matrix)
    assert tall.passes_once(matrix.T)
    assert not tall.passes_once(matrix[::2])
    assert not tall.passes_once(matrix.astype(complex))
    assert not tall.passes_once(matrix.astype(int))


@pytest.mark.parametrize("solver", ["lsqr", "lsmr"])
@pytest.mark.parametrize("kind", [float, np.float32, int, complex])
@pytest.mark.parametrize("damp", [0.0, 0.5])
def test_wrappers_solve_dense_problems_of_any_kind(solver, kind, damp):
    rng = np.random.default_rng(1)
    matrix = (10 * rng.standard_normal((60, 12))).astype(kind)
    b = rng.standard_normal(60)
    x, *_ = getattr(precond.scipy, solver)(matrix, b, damp=damp, atol=1e-13, btol=1e-13)
    wide = matrix.astype(complex if kind is complex else float)
    expected = np.linalg.lstsq(np.vstack([wide, damp * np.eye(12)]), np.append(b, np.zeros(12)), rcond=None)[0]
    np.testing.assert_allclose(x, expected, rtol=1e-9)
    operator = scipy.sparse.linalg.aslinearoperator(wide)
    same, *_ = getattr(precond.scipy, solver)(operator, b, damp=damp, atol=1e-13, btol=1e-13)
    np.testing.assert_allclose(x, same, rtol=1e-9)


def test_arithmetic_is_in_the_type_of_the_vector_and_sums_in_that_of_the_residual():
    rng = np.random.default_rng(2)
    for order in "CF":
        matrix = np.array(rng.standard_normal((1030, 67)), np.float32, order=order)
        x, u = rng.standard_normal(67).astype(np.float32), rng.standard_normal(1030)
        again, exact = u.copy(), u.copy()
        product = tall.there_and_back(matrix, x, 0.3, again)
        assert product.dtype == again.dtype == np.float64
        wide = tall.there_and_back(matrix, x.astype(float), 0.3, exact)
        assert 1e-9 < np.linalg.norm(again - exact) / np.linalg.norm(exact) < 1e-6
        assert 1e-9 < np.linalg.norm(product - wide) / np.linalg.norm(wide) < 1e-6


@pytest.mark.parametrize("solver", ["lsqr", "lsmr"])
@pytest.mark.parametrize("columns", [12, 80])
@pytest.mark.parametrize("damp", [0.0, 0.5])
def test_problems_in_single_precision_are_solved_in_it_and_judged_in_double(solver, columns, damp):
    rng = np.random.default_rng(3)
    matrix, b = rng.standard_normal((400, columns)).astype(np.float32), rng.standard_normal(400).astype(np.float32)
    x, _, _, r1, *_ = getattr(precond.scipy, solver)(matrix, b, damp=damp, atol=1e-6, btol=1e-6)
    wide = np.vstack([matrix.astype(float), damp * np.eye(columns)])
    right = np.append(b.astype(float), np.zeros(columns))
    expected = np.linalg.lstsq(wide, right, rcond=None)[0]
    assert x.dtype == np.float64
    assert 1e-12 < np.linalg.norm(x - expected) / np.linalg.norm(expected) < 2e-5
    size = np.linalg.norm((right - wide @ x)[: 400 if solver == "lsqr" else None])
    np.testing.assert_allclose(r1, size, rtol=1e-12)
