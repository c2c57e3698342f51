"""Richardson's iteration against its one line, with a given step and with the one of least residual."""

from __future__ import annotations

import numpy as np
import pytest

import precond
from precond.core import BadInputError, Status
from precond.krylov import Richardson
from tests.papers.linear_toys import poisson, steps

rng = np.random.default_rng(52)


@pytest.mark.parametrize("step", [None, 0.1])
@pytest.mark.parametrize("kind", [float, complex])
def test_follows_the_paper(step, kind):
    n = 15
    a = rng.standard_normal((n, n)) + 6 * np.eye(n) + (1j * rng.standard_normal((n, n)) if kind is complex else 0)
    p = np.eye(n) / 2 + 0.02 * rng.standard_normal((n, n)) + 0 * a
    b, x = rng.standard_normal(n) + 0 * a[0], rng.standard_normal(n) + 0 * a[0]
    for y, progress in steps(Richardson(step), a, b, p, 8, x):
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-12)
        r = b - a @ x
        assert float(progress.residual) == pytest.approx(np.linalg.norm(r))
        q = a @ p @ r
        alpha = step or np.linalg.lstsq(q[:, None], r, rcond=None)[0][0]
        x = x + alpha * (p @ r)


def test_a_good_preconditioner_alone_converges():
    result = precond.solve(poisson(10), np.ones(100), method="richardson", preconditioner="ic0", rtol=1e-8)
    assert result.converged
    plain = precond.solve(poisson(10), np.ones(100), method="richardson", preconditioner="jacobi", rtol=1e-8)
    assert result.iterations < plain.iterations / 2


def test_a_step_along_which_the_residual_cannot_fall_is_a_breakdown():
    _, progress = steps(Richardson(), np.array([[0.0, 1.0], [-1.0, 0.0]]), np.array([1.0, 0.0]), None, 5)[-1]
    assert progress.failure is Status.FAILED_BREAKDOWN
    with pytest.raises(BadInputError, match="step"):
        Richardson(0.0)
