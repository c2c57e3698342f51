"""Block CG against dense minimization over the sum of the Krylov spaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import Status
from precond.krylov import BlockCG
from precond.krylov.block_cg import orthonormal
from tests.papers.linear_toys import poisson, steps, symmetric

rng = np.random.default_rng(54)


@pytest.mark.parametrize("kind", [float, complex])
def test_each_iterate_minimizes_the_energy_norm_over_all_krylov_spaces(kind):
    n, s = 24, 3
    a = symmetric(np.linspace(1, 50, n), seed=5) + 0j
    if kind is complex:
        phases = np.exp(1j * rng.uniform(0, 6, n))
        a = phases[:, None] * a * phases.conj()
    p = symmetric(np.linspace(1, 2, n), seed=6) + 0 * a
    b = rng.standard_normal((s, n)) + (1j * rng.standard_normal((s, n)) if kind is complex else 0)
    a, p = (a, p) if kind is complex else (a.real, p.real)
    a = (a + a.conj().T) / 2
    exact, space, block = np.linalg.solve(a, b.T), np.zeros((n, 0)), p @ b.T
    for k, (x, progress) in enumerate(steps(BlockCG(), a, b, p, 6)):
        if k:
            space, _ = np.linalg.qr(np.column_stack([space, block]))
            block = p @ a @ block
            block = block / np.linalg.norm(block, axis=0)
        best = space @ np.linalg.solve(space.conj().T @ a @ space, space.conj().T @ a @ exact) if k else 0 * exact
        np.testing.assert_allclose(x.T, best, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(progress.residual.numpy(), np.linalg.norm(b - x @ a.T, axis=1), rtol=1e-6, atol=1e-9)


def test_dependent_and_zero_right_hand_sides_do_not_break_it():
    a = poisson(8).toarray()
    first, second = rng.standard_normal(64), rng.standard_normal(64)
    rows = np.stack([first, first, np.zeros(64), second, first - 2 * second])
    x, progress = steps(BlockCG(), a, rows, None, 60)[-1]
    assert progress.failure is None
    np.testing.assert_allclose(x, np.linalg.solve(a, rows.T).T, rtol=1e-8, atol=1e-10)


def test_needs_fewer_steps_than_its_right_hand_sides_alone():
    a, b = poisson(20), rng.standard_normal((400, 8))
    block = precond.solve(a, b, method="block-cg", preconditioner="identity", rtol=1e-8)
    alone = precond.solve(a, b, method="cg", preconditioner="identity", rtol=1e-8)
    assert block.converged
    assert block.iterations < 0.7 * alone.iterations


def test_an_indefinite_matrix_is_found():
    _, progress = steps(BlockCG(), np.diag([1.0, -2.0, 3.0]), np.ones((2, 3)) * [[1], [2]], None, 9)[-1]
    assert progress.failure is Status.FAILED_INDEFINITE_OPERATOR


def test_bases_are_orthonormal_and_as_large_as_the_rank():
    rows = torch.from_numpy(rng.standard_normal((4, 9)))
    rows = torch.cat([rows, 1e6 * rows[:2] - rows[2:]])
    basis = orthonormal(rows)
    assert basis.shape == (4, 9)
    torch.testing.assert_close(basis @ basis.mT, torch.eye(4, dtype=basis.dtype))
    torch.testing.assert_close(rows @ basis.mT @ basis, rows, rtol=1e-8, atol=1e-6)
