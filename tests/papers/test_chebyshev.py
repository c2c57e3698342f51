"""Chebyshev's semi-iteration against Chebyshev's polynomials, and its bound."""

from __future__ import annotations

import numpy as np
import pytest

import precond
from precond.core import BadInputError, Status
from precond.krylov import Chebyshev
from tests.papers.linear_toys import poisson, steps, symmetric

rng = np.random.default_rng(53)


def polynomial(k, x):
    """Return T_k(x) for any real x."""
    inside = np.cos(k * np.arccos(np.clip(x, -1, 1)))
    outside = np.sign(x) ** k * np.cosh(k * np.arccosh(np.maximum(np.abs(x), 1)))
    return np.where(np.abs(x) <= 1, inside, outside)


def test_the_residual_is_the_scaled_polynomial_of_the_matrix():
    values, low, high = np.linspace(1.0, 9.0, 12), 0.8, 9.5
    a, b = symmetric(values, seed=3), rng.standard_normal(12)
    eigenvalues, vectors = np.linalg.eigh(a)
    kappa = np.sqrt(high / low)
    for k, (x, progress) in enumerate(steps(Chebyshev(low, high), a, b, None, 15)):
        factor = polynomial(k, (high + low - 2 * eigenvalues) / (high - low))
        factor = factor / polynomial(k, np.array((high + low) / (high - low)))
        expected = vectors @ (factor * (vectors.T @ b))
        np.testing.assert_allclose(b - a @ x, expected, rtol=1e-7, atol=1e-11)
        c = (kappa + 1) / (kappa - 1)
        assert float(progress.residual) <= 2 / (c**k + c**-k) * np.linalg.norm(b) * (1 + 1e-9)


def test_a_preconditioner_enters_as_p_times_the_residual():
    a, p = symmetric(np.linspace(1, 5, 10), seed=1), symmetric(np.linspace(0.5, 1, 10), seed=2)
    root = np.linalg.cholesky(p)
    b = rng.standard_normal(10)
    inner = root.T @ a @ root
    for (x, _), (y, _) in zip(
        steps(Chebyshev(0.4, 6.0), a, b, p, 8),
        steps(Chebyshev(0.4, 6.0), (inner + inner.T) / 2, root.T @ b, None, 8),
        strict=True,
    ):
        np.testing.assert_allclose(x, root @ y, rtol=1e-8, atol=1e-10)


def test_finds_the_ends_by_itself_and_raises_one_that_is_too_low():
    a, b = poisson(15), rng.standard_normal(225)
    known = np.linalg.eigvalsh(a.toarray())[[0, -1]]
    best = precond.solve(a, b, method=Chebyshev(*known), preconditioner="identity", rtol=1e-8)
    own = precond.solve(a, b, method="chebyshev", preconditioner="identity", rtol=1e-8)
    assert best.converged
    assert own.converged
    assert own.iterations <= 2 * best.iterations
    low = precond.solve(a, b, method=Chebyshev(known[0], 0.8 * known[1]), preconditioner="identity", rtol=1e-8)
    assert low.converged


def test_estimated_ends_enclose_the_spectrum_so_that_no_residual_grows():
    a, b = poisson(30), np.ones(900)
    seen = [float(progress.residual) for _, progress in steps(Chebyshev(), a.toarray(), b, None, 60)]
    assert max(seen) <= seen[0]
    assert seen[-1] <= 0.2 * seen[0]


def test_an_end_that_is_much_too_low_is_noticed_before_digits_are_lost():
    values = np.linspace(1.0, 9.0, 12)
    a, b = symmetric(values, seed=3), rng.standard_normal(12)
    seen = [float(progress.residual) for _, progress in steps(Chebyshev(1.0, 6.0), a, b, None, 80)]
    assert max(seen) <= 1e3 * seen[0]
    assert seen[-1] <= 1e-6 * seen[0]


def test_an_indefinite_matrix_and_wrong_ends_are_refused():
    _, progress = steps(Chebyshev(), symmetric([-1.0, 1.0, 2.0]), np.ones(3), None, 5)[-1]
    assert progress.failure is Status.FAILED_INDEFINITE_OPERATOR
    for ends in ((0.0, 1.0), (2.0, 1.0), (None, -1.0)):
        with pytest.raises(BadInputError, match="smallest"):
            Chebyshev(*ends)
    seen = steps(Chebyshev(2.0, 2.0), 2 * np.eye(3), np.ones(3), None, 5)
    np.testing.assert_allclose(seen[1][0], np.full(3, 0.5))
