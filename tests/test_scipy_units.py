"""Right-hand sides whose squares overflow or vanish: ``precond.scipy`` solves them, and never claims what is not so."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse

import precond.scipy as ours
from tests.papers.linear_toys import poisson

N = 36
A = poisson(6)
SKEWED = scipy.sparse.csr_array(A + scipy.sparse.diags_array([np.ones(N - 1)], offsets=[1]))
B = np.random.default_rng(1).standard_normal(N)
JACOBI = scipy.sparse.diags_array(1 / A.diagonal())
MATRIX = {"cg": A, "minres": A, "gmres": SKEWED, "bicgstab": SKEWED, "gcrotmk": SKEWED}
square = pytest.mark.parametrize("name", MATRIX)
sizes = pytest.mark.parametrize("size", [2.0**660, 2.0**-660, 2.0**990, 2.0**-990])


@square
@sizes
@pytest.mark.parametrize("M", [None, JACOBI], ids=["none", "jacobi"])
def test_the_solution_is_that_of_the_usual_problem_in_another_unit(name, size, M):
    expected, info = getattr(ours, name)(MATRIX[name], B, rtol=1e-9, M=M)
    x, code = getattr(ours, name)(MATRIX[name], size * B, x0=np.zeros(N), rtol=1e-9, M=M)
    assert (info, code) == (0, 0)
    np.testing.assert_allclose(x / size, expected, rtol=1e-6, atol=1e-9)


@square
def test_absolute_tolerances_starts_and_callbacks_keep_their_unit(name):
    size, seen = 2.0**700, []
    options = {"callback_type": "x"} if name == "gmres" else {}
    solve = getattr(ours, name)
    x = solve(MATRIX[name], size * B, rtol=1e-9, callback=lambda x: seen.append(x.copy()), **options)[0]
    np.testing.assert_allclose(seen[-1] / size, x / size, rtol=1e-6, atol=1e-9)
    start = x.copy()
    assert (solve(MATRIX[name], size * B, x0=x, rtol=1e-6)[0] == start).all()
    np.testing.assert_array_equal(x, start)
    if name != "minres":
        loose, info = solve(MATRIX[name], size * B, rtol=0, atol=0.5 * size * np.linalg.norm(B))
        rest = np.linalg.norm(B - MATRIX[name] @ (loose / size)) / np.linalg.norm(B)
        assert info == 0
        assert 1e-9 < rest <= 0.5


@square
def test_a_solution_that_no_number_can_tell_is_none(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the multiplication that overflows
        for matrix, b in ((1e-160 * MATRIX[name], 1e300 * B), (1e160 * MATRIX[name], 1e-300 * B)):
            assert getattr(ours, name)(matrix, b, rtol=1e-6)[1] > 0


@pytest.mark.parametrize("factor", [1e200, 1e-200])
def test_minres_claims_nothing_of_a_matrix_whose_squares_are_lost(factor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, info = ours.minres(factor * A, B, rtol=1e-8)
    assert info > 0 or np.linalg.norm(B - A @ (factor * x)) <= 1e-8 * np.linalg.norm(B)


@pytest.mark.parametrize("name", ["lsqr", "lsmr"])
@sizes
def test_fits_scale_what_is_proportional_to_the_right_hand_side(name, size):
    tall = scipy.sparse.csr_array(scipy.sparse.vstack([SKEWED, scipy.sparse.eye_array(N)]))
    b = np.random.default_rng(2).standard_normal(2 * N)
    expected = getattr(ours, name)(tall, b, atol=1e-10, btol=1e-10)
    found = getattr(ours, name)(tall, size * b, atol=1e-10, btol=1e-10)
    assert found[1:3] == expected[1:3]
    scaled = (0, 3, 7, 8) if name == "lsqr" else (0, 3, 7)
    for place, (value, want) in enumerate(zip(found[:9], expected[:9], strict=True)):
        if place in scaled:
            np.testing.assert_allclose(value / size, want, rtol=1e-9, atol=1e-12)
        elif place in (5, 6):
            np.testing.assert_allclose(value, want, rtol=1e-9)


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_lsqr_does_not_take_the_start_for_a_solution_because_squares_vanish(factor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, code, *_ = ours.lsqr(factor * A, B, atol=1e-9, btol=1e-9, conlim=0)
    assert code in (3, 6, 7) or np.linalg.norm(B - A @ (factor * x)) <= 1e-6 * np.linalg.norm(B)
