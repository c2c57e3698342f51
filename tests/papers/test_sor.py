"""SOR and SSOR against dense splittings, and the best relaxation of theory."""

from __future__ import annotations

import numpy as np
import pytest

import precond
from precond.core import BadInputError, IncompatibleError
from precond.krylov import SOR
from precond.operators import FunctionOperator
from tests.papers.linear_toys import poisson, steps

rng = np.random.default_rng(51)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("omega", [0.7, 1.0, 1.6])
def test_is_the_splitting(omega, symmetric):
    a = poisson(5).toarray() + 0.2 * np.diag(rng.random(25))
    a += np.triu(0.05 * rng.random((25, 25)), 1)
    d, low, up = np.diag(np.diag(a)), np.tril(a, -1), np.triu(a, 1)
    w = d / omega + low
    if symmetric:
        w = omega / (2 - omega) * w @ np.linalg.inv(d) @ (d / omega + up)
    b, x = rng.standard_normal(25), rng.standard_normal(25)
    for y, progress in steps(SOR(omega, symmetric), a, b, None, 6, x):
        np.testing.assert_allclose(y, x, rtol=1e-10, atol=1e-12)
        assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ x))
        x = x + np.linalg.solve(w, b - a @ x)


def test_the_best_relaxation_of_theory_is_far_better_than_gauss_seidel():
    m = 12
    radius = np.cos(np.pi / (m + 1))  # of Jacobi's iteration on the five-point Laplacian
    best = 2 / (1 + np.sqrt(1 - radius**2))
    counts = {
        omega: precond.solve(poisson(m), np.ones(m * m), method=SOR(omega), rtol=1e-8).iterations
        for omega in (1.0, best - 0.1, best, best + 0.1)
    }
    assert min(counts, key=counts.__getitem__) == best
    assert counts[best] < counts[1.0] / 5


def test_takes_no_preconditioner_and_needs_entries():
    with pytest.raises(IncompatibleError, match="richardson"):
        precond.solve(poisson(4), np.ones(16), method="sor", preconditioner="ic0")
    with pytest.raises(IncompatibleError, match="entries"):
        precond.solve(FunctionOperator(lambda x: x, (3, 3)), np.ones(3), method="sor")
    with pytest.raises(BadInputError, match="omega"):
        SOR(2.0)
