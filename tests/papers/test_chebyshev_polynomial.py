"""The Chebyshev polynomial preconditioner against the polynomial itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, Evidence
from precond.operators import as_operator
from precond.preconditioners.chebyshev_polynomial import ChebyshevPolynomial
from tests.papers.linear_toys import poisson, symmetric


def applied(part, a):
    state = part.init(torch.zeros(1, len(a), dtype=torch.float64))
    part.observe(state, Evidence(operator=as_operator(a)))
    part.refresh(state)
    return part.apply(state, torch.eye(len(a), dtype=torch.float64)).numpy(), state.bounds


def residual(t, k, low, high):
    """Return ``T_k((theta - t) / delta) / T_k(theta / delta)``."""
    theta, delta = (low + high) / 2, (high - low) / 2
    chebyshev = np.polynomial.chebyshev.Chebyshev.basis(k)
    return chebyshev((theta - t) / delta) / chebyshev(theta / delta)


@pytest.mark.parametrize("degree", [1, 2, 5, 9])
def test_its_residual_is_the_chebyshev_polynomial(degree):
    values = np.geomspace(0.05, 3, 12)
    a = symmetric(values)
    p, (low, high) = applied(ChebyshevPolynomial(degree=degree, ratio=20.0), a)
    assert values[-1] <= high <= 1.3 * values[-1]
    assert low == pytest.approx(high / 20)
    want = residual(values, degree, low, high)
    got = np.linalg.eigvalsh(np.eye(12) - p @ a)
    np.testing.assert_allclose(got, np.sort(want), atol=1e-12)
    assert np.linalg.eigvalsh(p)[0] > 0


def test_cuts_the_iterations_by_about_its_degree():
    a = poisson(30)
    b = np.ones(900)
    plain = precond.solve(a, b, method="cg", preconditioner="identity")
    ours = precond.solve(a, b, method="cg", preconditioner=ChebyshevPolynomial(degree=6, ratio=100.0))
    assert ours.converged
    assert ours.iterations < plain.iterations / 3
    assert ours.work.matvecs < 2.2 * plain.work.matvecs + 10


def test_a_matrix_without_positive_eigenvalue_is_reported():
    part = ChebyshevPolynomial()
    state = part.init(torch.zeros(1, 5, dtype=torch.float64))
    part.observe(state, Evidence(operator=as_operator(-np.eye(5))))
    assert part.refresh(state).failures == 1


@pytest.mark.parametrize("bad", [{"degree": 0}, {"ratio": 1.0}])
def test_bad_arguments_are_refused(bad):
    with pytest.raises(BadInputError):
        ChebyshevPolynomial(**bad)
