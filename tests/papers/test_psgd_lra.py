"""PSGD with a low-rank approximation against dense matrices, and what it does to condition numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError, Evidence
from precond.math.draws import normals
from precond.optim import PSGDLRA
from precond.preconditioners import fitted_low_rank
from precond.preconditioners.fitted_low_rank import FittedLowRank
from tests.papers.networks import assert_close, gradients, run, start

EPS = np.finfo(np.float64).eps


def drawn(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double().numpy()


class Dense:
    """The published update with all matrices written out, and the coin replaced by turns."""

    def __init__(self, n, rank, lr=0.1, beta=0.9, damping=1e-9, scale=None):
        self.n, self.lr, self.beta, self.damping, self.scale = n, lr, beta, damping, scale
        rank = min(rank, n - 1)
        self.u, self.v = (0.1**0.5 * x / np.linalg.norm(x) for x in (drawn((n, rank), 0), drawn((n, rank), 1)))
        self.d, self.bounds, self.t = None, np.zeros(3), 0

    def q(self):
        return (np.eye(self.n) + self.u @ self.v.T) @ np.diag(self.d)

    def bounded(self, i, size):
        self.bounds[i] = max(self.beta * self.bounds[i] + (1 - self.beta) * size, size)
        return self.lr / self.bounds[i]

    def fit(self, h, probe=None):
        if self.d is None:
            scale = (np.mean(h**4) + self.damping**4) ** (-1 / 8) if self.scale is None else self.scale
            if probe is not None and self.scale is None:
                scale *= np.mean(probe**2) ** 0.25
            self.d = np.full(self.n, scale)
        noise = normals(torch.tensor([self.t]), torch.empty(1, self.n, dtype=torch.float64))[0].numpy()
        w = noise if probe is None else probe
        h = h + (self.damping + EPS * np.abs(h)) * noise

        q, u, v, d = self.q(), self.u, self.v, self.d
        a, b = q @ h, np.linalg.solve(q.T, w)
        ph, pw = q.T @ a, np.linalg.solve(q, b)
        rate = self.bounded(2, np.abs(ph * h).max() + np.abs(w * pw).max())
        self.d = d - rate * (ph * h - w * pw) * d
        e = np.outer(a, a) - np.outer(b, b)
        norm = np.linalg.norm
        if self.t % 2 == 0:
            rate = self.bounded(0, norm(a) * norm(v @ v.T @ a) + norm(b) * norm(v @ v.T @ b))
            self.u = u - rate * e @ v @ (np.eye(u.shape[1]) + v.T @ u)
        else:
            rate = self.bounded(1, norm(a) * norm(u @ u.T @ a) + norm(b) * norm(u @ u.T @ b))
            self.v = v - rate * (np.eye(self.n) + v @ u.T) @ e @ u
        self.t += 1

    def balance(self):
        rho = (np.sum(self.u**2) / np.sum(self.v**2)) ** 0.25
        u, v = self.u / rho, self.v * rho
        e = 0.1 * (u.T @ u - v.T @ v) / (np.sum(u**2) + np.sum(v**2))
        self.u, self.v = u - u @ (e - e @ e / 2), v + v @ (e + e @ e / 2)


@pytest.mark.parametrize("rows", [4, 2**16])  # multiplied at once
@pytest.mark.parametrize("criterion", ["whitening", "newton"])
def test_a_fit_equals_dense_matrices(criterion, rows, monkeypatch):
    monkeypatch.setattr(fitted_low_rank, "_ROWS", rows)
    n, rng = 9, np.random.default_rng(0)
    hessian = rng.standard_normal((n, n))
    part = FittedLowRank(3, criterion=criterion)
    state, dense = part.init(torch.empty(1, n, dtype=torch.float64)), Dense(n, 3)
    for _ in range(30):
        v, g = rng.standard_normal(n), rng.standard_normal(n) * np.logspace(-2, 1, n)
        h = hessian @ v if criterion == "newton" else g
        dense.fit(h, v if criterion == "newton" else None)
        probe = (torch.tensor(v)[None], torch.tensor(h)[None])
        part.observe(state, Evidence(gradient=torch.tensor(g)[None], probe=probe))
        dense.balance()
        part.refresh(state)
    x = rng.standard_normal(n)
    np.testing.assert_allclose(part.apply(state, torch.tensor(x)[None])[0], dense.q().T @ dense.q() @ x, rtol=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_all_parameters_are_one_vector(momentum):
    stream, params = gradients(20), start()
    flat = np.concatenate([p.detach().numpy().ravel() for p in params])
    sizes = [p.numel() for p in params]
    dense, mean, lr, decay = Dense(len(flat), 4), np.zeros_like(flat), 0.05, 0.1
    for t, given in enumerate(stream):
        g = np.concatenate([x.ravel() for x in given])
        dense.fit(g)
        if t == 0 or (t + 1) % 10 == 0:
            dense.balance()
        b = min(t / (t + 1), momentum)
        mean = b * mean + (1 - b) * g
        u = dense.q().T @ dense.q() @ mean
        u = np.clip(u / max(1.0, np.sqrt(np.mean(u**2)) / 2.0), -10.0, 10.0)
        flat = (1 - lr * decay) * flat - lr * u
    moved = run(
        lambda ps: PSGDLRA(ps, lr=lr, momentum=momentum, weight_decay=decay, rank_of_approximation=4), stream, params
    )
    pieces = np.split(flat, np.cumsum(sizes)[:-1])
    assert_close(moved, [piece.reshape(p.shape) for piece, p in zip(pieces, params, strict=True)], 1e-9)


def test_headline_a_few_stiff_directions_are_tamed():
    """A Hessian of condition above 1000 that is a diagonal with a few stiff directions, by exact probes."""
    n, rng = 60, np.random.default_rng(0)
    stiff = np.linalg.qr(rng.standard_normal((n, 4)))[0]
    hessian = np.diag(10 ** rng.uniform(-0.5, 0.5, n)) + 1000 * stiff @ stiff.T
    part = FittedLowRank(4, lr=0.5, criterion="newton")
    state = part.init(torch.empty(1, n, dtype=torch.float64))
    for step in range(1000):
        part = FittedLowRank(4, lr=0.5 if step < 700 else 0.1, criterion="newton")
        v = torch.tensor(rng.standard_normal(n))[None]
        part.observe(state, Evidence(probe=(v, v @ torch.tensor(hessian))))
        part.refresh(state)
    u, v, d = (x[0].numpy() for x in (state.u, state.v, state.d))
    q = (np.eye(n) + u @ v.T) @ np.diag(d)
    assert np.linalg.cond(hessian) > 1000
    assert np.linalg.cond(q @ hessian @ q.T) < np.linalg.cond(hessian) / 10


def test_rank_zero_is_a_diagonal():
    part = FittedLowRank(0)
    state = part.init(torch.empty(1, 5, dtype=torch.float64))
    for step in range(10):
        part.observe(
            state, Evidence(gradient=torch.randn(1, 5, generator=torch.Generator().manual_seed(step)).double())
        )
    v = torch.arange(1.0, 6.0, dtype=torch.float64)[None]
    torch.testing.assert_close(part.apply(state, v), state.d.square() * v)


def test_refuses_a_negative_rank_and_repeats_what_it_draws():
    with pytest.raises(BadInputError, match="rank"):
        FittedLowRank(-1)
    steps = torch.tensor([3, 3, 4])
    first = normals(steps, torch.empty(3, 2))
    assert torch.equal(first, normals(steps, torch.empty(3, 2)))
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
