"""``precond.SolveSequence``: each system certified, and cheaper together than alone."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import IncompatibleError, Status
from precond.preconditioners.ilut import ILUT
from tests.papers.linear_toys import poisson

rng = np.random.default_rng(21)
M = 14
N = M * M
WIND = scipy.sparse.diags_array([-np.ones(N - 1), np.ones(N - 1)], offsets=[-1, 1])
B = rng.standard_normal(N)


def related(i):
    """Return a convection-diffusion matrix and a right-hand side that drift slowly."""
    return scipy.sparse.csr_array(poisson(M) + (0.5 + 0.01 * i) * WIND), B + 0.01 * i * np.roll(B, 1)


def residual(a, b, x):
    return np.linalg.norm(b - a @ x) / np.linalg.norm(b)


@pytest.fixture
def clockless(monkeypatch):
    """Seconds, which depend on the machine, make no new setup pay."""
    monkeypatch.setattr("precond.sequence._Kept.overpaid", property(lambda kept: False))


@pytest.mark.usefixtures("clockless")
def test_every_system_is_solved_with_fewer_products_and_setups_than_alone():
    sequence, alone = precond.SolveSequence(rtol=1e-9, preconditioner="ilu0"), 0
    for i in range(8):
        a, b = related(i / 20)
        result = sequence.solve(a, b)
        assert result.converged
        assert residual(a, b, result.x) <= 1e-9
        alone += precond.solve(a, b, rtol=1e-9, preconditioner="ilu0").work.matvecs
    assert sequence.solved == 8
    assert sequence.setups < 8
    assert sequence.work.matvecs < alone


def test_says_which_setup_was_used():
    sequence = precond.SolveSequence()
    first, second = sequence.solve(*related(0)), sequence.solve(*related(1))
    assert first.work.refreshes == 1
    assert "gmres + ilut" in second.method
    assert "set up for system" in second.method


def test_starts_where_the_residual_is_least_along_the_last_solution():
    a, b = related(0)
    sequence = precond.SolveSequence(method="gmres", preconditioner="jacobi", rtol=1e-10)
    sequence.solve(a, b)
    result = sequence.solve(a, -3 * b)
    assert result.converged
    assert result.iterations <= 1
    other = rng.standard_normal(N)
    assert sequence.solve(a, other).history[0] <= np.linalg.norm(other) * (1 + 1e-12)


@pytest.mark.usefixtures("clockless")
def test_a_preconditioner_that_no_longer_serves_is_set_up_again():
    sequence = precond.SolveSequence(method="gmres", preconditioner=ILUT(drop_tolerance=0.0), rtol=1e-8)
    a, b = related(0)
    assert sequence.solve(a, b).work.refreshes == 1
    scales = scipy.sparse.diags_array(10.0 ** rng.uniform(-4, 4, N))
    hard = scipy.sparse.csr_array(scales @ a[rng.permutation(N)])
    sequence.limits["max_iterations"] = 40
    result = sequence.solve(hard, hard @ np.ones(N))
    assert result.converged
    assert sequence.setups == 2
    assert sequence.solve(hard, hard @ rng.standard_normal(N)).iterations <= 3


def test_pays_for_a_setup_when_reuse_has_cost_as_much(monkeypatch):
    sequence = precond.SolveSequence(method="gmres", preconditioner="ilu0")
    sequence.solve(*related(0))
    kept = sequence._kept
    kept.setup, kept.rent = 1.0, 0.9
    assert sequence.solve(*related(1)).work.refreshes == 0
    kept.rent = 1.1
    assert sequence.solve(*related(2)).work.refreshes == 1
    assert kept.made == 2
    assert kept.rent == 0


def test_systems_may_change_in_size_kind_and_form():
    sequence = precond.SolveSequence(rtol=1e-9)
    spd = poisson(6)
    cases = [
        (spd, np.ones(36)),
        (scipy.sparse.csr_array(spd + scipy.sparse.diags_array([np.ones(35)], offsets=[1])), np.ones(36)),
        (spd - 4.5 * scipy.sparse.eye_array(36), np.ones((36, 2))),
        (torch.from_numpy(poisson(4).toarray()), torch.ones(16, dtype=torch.float64)),
        (poisson(4).astype(np.complex128) * 1j, np.ones(16)),
        (spd, np.zeros(36)),
    ]
    for a, b in cases:
        result = sequence.solve(a, b)
        assert result.converged, result.message
        assert type(result.x) is type(b)
        assert result.x.shape == b.shape
    assert not result.x.any()


def test_what_does_not_converge_is_not_kept():
    sequence = precond.SolveSequence(method="gmres", preconditioner="identity", max_iterations=2)
    a, b = related(0)
    assert sequence.solve(a, b).status is Status.STOPPED_STEPS
    assert sequence.solve(a, b).status is Status.STOPPED_STEPS
    with pytest.raises(IncompatibleError, match="gmres"):
        precond.SolveSequence(method="cg").solve(a, b)


def test_callbacks_see_solutions_in_the_form_of_b():
    sequence, shapes = precond.SolveSequence(), []
    for i in range(2):
        a, b = related(i)
        sequence.solve(a, b[:, None], callback=lambda event: shapes.append(event.solution().shape))
    assert set(shapes) == {(N, 1)}
