"""Inverse roots by matrix products against eigendecompositions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.math.factors.iterative_roots import coupled_inverse_sqrt, coupled_newton
from precond.math.factors.root_methods import CoupledNewton, Eigen


def matrices(n, condition, dtype=torch.float64, batch=3, seed=0):
    """Return matrices of a given condition and their eigenvalues and vectors."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((batch, n, n)))[0]
    values = np.stack([np.logspace(0, -np.log10(condition), n) * 10.0**k for k in range(batch)])
    return torch.tensor((q * values[:, None]) @ q.swapaxes(1, 2)).to(dtype), values, q


def power(values, q, exponent):
    return torch.tensor((q * values[:, None] ** exponent) @ q.swapaxes(1, 2))


def error(roots, exact):
    return float(((roots.double() - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)).max())


@pytest.mark.parametrize(
    ("condition", "dtype", "tolerance"),
    [(1e2, torch.float64, 1e-12), (1e6, torch.float64, 1e-9), (1e2, torch.float32, 1e-5), (1e4, torch.float32, 1e-3)],
)
def test_coupled_quintics(condition, dtype, tolerance):
    a, values, q = matrices(24, condition, dtype)
    roots, failed = coupled_inverse_sqrt(a)
    assert not failed.any()
    assert error(roots, power(values, q, -0.5)) < tolerance


@pytest.mark.parametrize("p", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("condition", "dtype", "tolerance"),
    [(1e2, torch.float64, 1e-6), (1e6, torch.float64, 1e-6), (1e2, torch.float32, 1e-4), (1e4, torch.float32, 1e-2)],
)
def test_coupled_newton(p, condition, dtype, tolerance):
    a, values, q = matrices(24, condition, dtype)
    roots, failed, residual = coupled_newton(a, p)
    assert not failed.any()
    if dtype == torch.float64:
        assert residual.max() <= 1e-6
    assert error(roots, power(values, q, -1.0 / p)) < tolerance


def test_the_ridge_is_a_fraction_of_the_largest_eigenvalue():
    a, values, q = matrices(12, 1e12)
    roots, failed, _ = coupled_newton(a, 4, ridge=1e-4)
    assert not failed.any()
    assert error(roots, power(values + 1e-4 * values[:, :1], q, -0.25)) < 1e-4


def test_members_stop_alone_and_bad_ones_leave_the_others_alone():
    a, values, q = matrices(8, 1e4, batch=4)
    a[1], a[2] = 0.0, torch.nan
    exact = power(values, q, -0.5)
    for roots, failed in (coupled_newton(a, 2)[:2], coupled_inverse_sqrt(a), Eigen()(a, 2)):
        assert failed.tolist() == [False, False, True, False]
        assert torch.equal(roots[1], torch.eye(8, dtype=torch.float64))
        assert torch.equal(roots[2], torch.eye(8, dtype=torch.float64))
        assert error(roots[[0, 3]], exact[[0, 3]]) < 1e-6
    together, alone = coupled_newton(a, 2)[0][3], coupled_newton(a[3:], 2)[0][0]
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)


def test_singular_matrices_have_a_bounded_root_and_orders_are_checked():
    v = torch.randn(1, 6, 1, generator=torch.Generator().manual_seed(0))
    for root in (coupled_inverse_sqrt(v @ v.mT)[0], CoupledNewton()(v @ v.mT, 4)[0]):
        assert root.isfinite().all()
        assert torch.linalg.eigvalsh(root).min() > 0
    with pytest.raises(ValueError, match="Eigen"):
        CoupledNewton()(torch.eye(2)[None], 2.5)
    with pytest.raises(ValueError, match="positive integer"):
        coupled_newton(torch.eye(2)[None], 0)
