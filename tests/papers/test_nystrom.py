"""The randomized Nystrom preconditioner against dense algebra, and its paper's promise on a kernel matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, Evidence, IncompatibleError
from precond.operators import FunctionOperator, as_operator
from precond.preconditioners.nystrom import Nystrom


def kernel(n=300, width=1.0, seed=0):
    x = np.random.default_rng(seed).random((n, 3))
    return np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / (2 * width**2 * 0.04))


def inverse(part, a):
    """Return ``P`` as a dense matrix."""
    n = len(a)
    state = part.init(torch.zeros(1, n, dtype=torch.float64))
    part.observe(state, Evidence(operator=as_operator(a, symmetric=True)))
    health = part.refresh(state)
    return part.apply(state, torch.eye(n, dtype=torch.as_tensor(a).dtype)).numpy().T, health


def reference(k, mu, w):
    """Return the paper's ``P`` over ``lambda_l + mu``, from the dense Nystrom approximation on the range of ``w``."""
    approximation = k @ w @ np.linalg.pinv(w.conj().T @ k @ w, hermitian=True) @ w.conj().T @ k
    values, vectors = np.linalg.eigh(approximation)
    values, u = values[-w.shape[1] :], vectors[:, -w.shape[1] :]
    scaled = u @ np.diag((values[0] + mu) / (values + mu)) @ u.conj().T + np.eye(len(k)) - u @ u.conj().T
    return scaled / (values[0] + mu)


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("rank", [1, 5, 12])
def test_is_the_dense_formula(dtype, rank):
    rng = np.random.default_rng(1)
    f = rng.standard_normal((20, 20)) + (1j * rng.standard_normal((20, 20)) if dtype is complex else 0)
    k, mu = f @ np.diag(0.5 ** np.arange(20)) @ f.conj().T, 0.3
    part = Nystrom(mu=mu, rank=rank)
    drawn = []
    operator = FunctionOperator(
        lambda x: (drawn.append(x), x @ torch.from_numpy(k + mu * np.eye(20)).T)[1],
        (20, 20), dtype=torch.from_numpy(k).dtype, symmetric=True,
    )  # fmt: skip
    state = part.init(torch.zeros(1, 20))
    part.observe(state, Evidence(operator=operator))
    part.refresh(state)
    p = part.apply(state, torch.eye(20, dtype=torch.from_numpy(k).dtype)).numpy().T
    np.testing.assert_allclose(p, reference(k, mu, drawn[0].resolve_conj().numpy().T), rtol=1e-8, atol=1e-9)


def test_the_full_rank_is_the_inverse():
    k = kernel(30)
    p, _ = inverse(Nystrom(mu=0.1, rank=30), k + 0.1 * np.eye(30))
    np.testing.assert_allclose(p @ (k + 0.1 * np.eye(30)), np.eye(30), atol=1e-9)


def test_the_condition_number_is_below_28_at_the_rank_of_the_theorem():
    """The headline, with the rank ``2 ceil(1.5 d_eff) + 1``."""
    mu, k = 1e-2, kernel(width=3.0)
    values = np.linalg.eigvalsh(k)
    effective = (values / (values + mu)).sum()
    rank = int(2 * np.ceil(1.5 * effective) + 1)
    assert rank < 300
    conditions = []
    for seed in range(4):
        p, _ = inverse(Nystrom(mu=mu, rank=rank, seed=seed), k + mu * np.eye(300))
        after = np.sort(np.linalg.eigvals(p @ (k + mu * np.eye(300))).real)
        conditions.append(after[-1] / after[0])
    assert np.mean(conditions) < 28
    assert values[-1] / mu > 1e3


def test_chooses_a_rank_by_the_decay_and_counts_its_products():
    mu, k = 1e-2, kernel(width=3.0)
    b = np.random.default_rng(2).standard_normal(300)
    plain = precond.solve(k + mu * np.eye(300), b, method="cg", preconditioner="identity")
    ours = precond.solve(k + mu * np.eye(300), b, method="cg", preconditioner=Nystrom(mu=mu))
    assert ours.converged
    assert ours.iterations < plain.iterations / 2
    rank = int(ours.method.split("rank ")[1].split(",")[0])
    assert 10 < rank < 100
    assert ours.work.matvecs >= ours.iterations + rank
    assert ours.work.matvecs < plain.work.matvecs


def test_a_flat_spectrum_is_given_up_on():
    _, health = inverse(Nystrom(mu=1e-3), np.diag(np.linspace(1, 2, 200)))
    assert "rank 20, a flat spectrum" in health.detail


def test_serves_least_squares_through_the_gram_operator():
    rng = np.random.default_rng(3)
    a = rng.standard_normal((200, 40)) @ np.diag(np.geomspace(1, 1e-3, 40))
    b = rng.standard_normal(200)
    result = precond.lstsq(a, b, method="lsqr", preconditioner=Nystrom(rank=40), rtol=1e-10)
    assert result.converged
    assert result.iterations < 15


@pytest.mark.parametrize("bad", [{"mu": -1.0}, {"rank": 0}, {"largest": 0}])
def test_bad_arguments_are_refused(bad):
    with pytest.raises(BadInputError):
        Nystrom(**bad)


def test_a_matrix_that_is_not_symmetric_is_refused():
    with pytest.raises(IncompatibleError, match="symmetric"):
        precond.solve(np.triu(np.ones((4, 4))), np.ones(4), method="gmres", preconditioner=Nystrom())
