"""NST+HT+FB against its own steps in dense algebra, and recovery of sparse vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError, Status
from precond.solvers.systems.null_space_tuning import null_space_tuning


def problem(seed, m=60, n=200, s=8):
    rng = np.random.default_rng(seed)
    a, x = rng.standard_normal((m, n)), np.zeros(n)
    x[rng.choice(n, s, replace=False)] = rng.standard_normal(s)
    return a, x, a @ x


def reference(a, b, s, steps):
    """Return ``u`` after some steps, by pseudo-inverses and the feedback as the paper writes it."""
    back = a.T @ np.linalg.inv(a @ a.T)
    x = back @ b
    for _ in range(steps):
        t = np.sort(np.argsort(-np.abs(x))[:s])
        rest = np.setdiff1d(np.arange(a.shape[1]), t)
        u = np.zeros_like(x)
        at = a[:, t]
        u[t] = x[t] + np.linalg.inv(at.T @ at) @ at.T @ (a[:, rest] @ x[rest])
        x = u + back @ (b - a @ u)
    return u


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_follows_the_paper(steps):
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((20, 50)), rng.standard_normal(20)
    result = null_space_tuning(torch.from_numpy(a), torch.from_numpy(b), sparsity=6, max_iterations=steps, rtol=0)
    candidates = [reference(a, b, 6, k) for k in range(1, steps + 1)]
    best = min(candidates, key=lambda u: np.linalg.norm(b - a @ u))
    np.testing.assert_allclose(result.x, best, atol=1e-9)
    assert result.status is Status.STOPPED_STEPS


@pytest.mark.parametrize("sparsity", [8, None, lambda k: 2 * k])
def test_recovers_sparse_vectors(sparsity):
    for seed in range(6):
        a, x, b = problem(seed)
        result = null_space_tuning(torch.from_numpy(a), torch.from_numpy(b), sparsity=sparsity)
        assert result.status is Status.CONVERGED_RESIDUAL
        np.testing.assert_allclose(result.x, x, atol=1e-8)


def test_a_fixed_sparsity_that_cycles_goes_on_adaptively():
    a, x, b = problem(1, s=8)
    result = null_space_tuning(torch.from_numpy(a), torch.from_numpy(b), sparsity=5)
    assert result.status is Status.CONVERGED_RESIDUAL
    np.testing.assert_allclose(result.x, x, atol=1e-8)
    assert len(result.support) > 5


def test_zero_and_bad_input():
    a = torch.randn(4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert not null_space_tuning(a, torch.zeros(4, dtype=torch.float64)).x.any()
    for bad in ((a.T, torch.zeros(9)), (a, torch.zeros(5)), (torch.ones(3, 5), torch.ones(3))):
        with pytest.raises(BadInputError):
            null_space_tuning(bad[0].double(), bad[1].double())
    with pytest.raises(BadInputError, match="positive"):
        null_space_tuning(a, torch.ones(4, dtype=torch.float64), max_iterations=0)


def test_scales_do_not_matter_and_bad_entries_are_refused():
    generator = torch.Generator().manual_seed(3)
    a, x = torch.randn(20, 50, generator=generator, dtype=torch.float64), torch.zeros(50, dtype=torch.float64)
    x[[3, 17, 40]] = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for scale, unit in ((1, 1), (1e-170, 1), (1e170, 1), (1, 1e-300), (1, 1e300), (1e200, 1e-200), (1e-150, 1e250)):
        result = null_space_tuning(a * scale, a @ x * scale * unit)
        assert result.status is Status.CONVERGED_RESIDUAL
        torch.testing.assert_close(result.x / unit, x)
    for bad_a, bad_b in ((a * float("nan"), a @ x), (a, (a @ x) / 0), (a, (a @ x).float()), (a.long(), (a @ x).long())):
        with pytest.raises(BadInputError, match=r"finite|type"):
            null_space_tuning(bad_a, bad_b)


def test_as_many_rows_as_columns_and_limits_that_make_no_sense():
    eye, ones = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    result = null_space_tuning(eye, ones)
    assert result.status is Status.CONVERGED_RESIDUAL
    torch.testing.assert_close(result.x, ones)
    for limits in (
        {"sparsity": 0}, {"sparsity": 1.5}, {"sparsity": "all"}, {"rtol": -1.0}, {"rtol": float("nan")},
        {"max_iterations": 1.5},
    ):  # fmt: skip
        with pytest.raises(BadInputError, match=next(iter(limits))):
            null_space_tuning(eye, ones, **limits)
    with pytest.raises(BadInputError, match="from_numpy"):
        null_space_tuning(eye.numpy(), ones.numpy())


@pytest.mark.parametrize("unit", [1e-310, 1e-200, 1e200, 1e300])
def test_a_common_unit_of_both_changes_nothing(unit):
    a, x, b = (torch.from_numpy(v) for v in problem(0))
    result = null_space_tuning(a * unit, b * unit)
    assert result.status is Status.CONVERGED_RESIDUAL
    torch.testing.assert_close(result.x, x, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("of_matrix", "of_right"), [(1e-200, 1e200), (1e200, 1e-200)])
def test_solutions_that_numbers_cannot_express_are_not_claimed(of_matrix, of_right):
    a, _, b = (torch.from_numpy(v) for v in problem(0))
    result = null_space_tuning(a * of_matrix, b * of_right)
    assert result.status is Status.FAILED_NON_FINITE
    assert not result.residual <= 1e-10
