"""SSOR against its dense formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError
from precond.preconditioners.ssor import SSOR
from tests.papers.linear_toys import poisson
from tests.papers.test_jacobi import ready

rng = np.random.default_rng(6)


@pytest.mark.parametrize("omega", [0.4, 1.0, 1.7])
@pytest.mark.parametrize("kind", ["symmetric", "general", "complex", "float32"])
def test_is_a_sweep_forth_and_a_sweep_back(omega, kind):
    a = rng.standard_normal((9, 9)) * (rng.random((9, 9)) < 0.5) + 6 * np.eye(9)
    a = a + a.T if kind == "symmetric" else a
    a = a + 1j * rng.standard_normal((9, 9)) if kind == "complex" else a
    a = a.astype(np.float32) if kind == "float32" else a
    d, lower, upper = np.diag(np.diag(a)), np.tril(a, -1), np.triu(a, 1)
    p = omega * (2 - omega) * np.linalg.inv(d + omega * upper) @ d @ np.linalg.inv(d + omega * lower)
    part = SSOR(omega=omega)
    state, _ = ready(part, a)
    v = rng.standard_normal((2, 9)).astype(a.dtype)
    applied = part.apply(state, torch.from_numpy(v)).numpy()
    assert applied.dtype == a.dtype
    np.testing.assert_allclose(applied, v @ p.T, rtol=1e-4 if kind == "float32" else 1e-11, atol=1e-6)


@pytest.mark.parametrize("omega", [0.0, 2.0, -1.0, float("nan")])
def test_refuses_a_relaxation_that_is_not_definite(omega):
    with pytest.raises(BadInputError, match="omega"):
        SSOR(omega=omega)


def test_a_zero_on_the_diagonal_is_replaced_and_reported():
    state, health = ready(SSOR(), np.array([[0.0, 1.0], [1.0, 2.0]]))
    assert "1 zeros" in health.detail
    assert torch.isfinite(SSOR().apply(state, torch.ones(2, 2, dtype=torch.float64))).all()


def test_the_right_relaxation_lowers_the_order_of_the_condition_number():
    """With ``omega = 2 / (1 + 2 sin(pi h / 2))`` iterations grow like h^-1/2, without preconditioning like h^-1."""
    growth = {}
    for name in ("identity", "ssor"):
        counts = []
        for m in (15, 63):
            omega = 2 / (1 + 2 * np.sin(np.pi / (2 * (m + 1))))
            p = SSOR(omega=omega) if name == "ssor" else name
            b = np.random.default_rng(0).standard_normal(m * m)
            counts.append(precond.solve(poisson(m), b, method="cg", preconditioner=p).iterations)
        growth[name] = counts[1] / counts[0]
    assert growth["identity"] > 3
    assert growth["ssor"] < 2.6
