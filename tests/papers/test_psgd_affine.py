"""PSGD with two triangular factors against a plain loop, and how white the gradients become."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from precond.core import Evidence, map_tensors
from precond.optim import PSGDAffine
from precond.preconditioners.fitted_affine import FittedAffine
from tests.papers.networks import assert_close, each, gradients, run, start, with_gaps
from tests.papers.test_psgd import EPS, drawn, spectral


def as_matrix(shape):
    """Return the order of axes and the shape of the matrix with the smallest sum of squared sides."""
    if len(shape) < 3:
        return tuple(range(len(shape))), (1, int(np.prod(shape))) if len(shape) < 2 else shape
    best = None
    for order in itertools.permutations(range(len(shape))):
        for cut in range(1, len(shape)):
            m, n = int(np.prod([shape[i] for i in order[:cut]])), int(np.prod([shape[i] for i in order[cut:]]))
            if best is None or m**2 + n**2 < best[0]:
                best = m**2 + n**2, order, (m, n)
    return best[1:]


def fit(left, right, bounds, pair, step, lr, damping=1e-9):
    """Take one step of the published triangular fit; the noise stands for ``v`` where that is not given."""
    v, h = pair
    noise = drawn(h.shape, step)
    v = noise if v is None else v
    a = left @ (h + (damping + EPS * np.abs(h)) * noise) @ right.T
    b = np.linalg.inv(left).T @ v @ np.linalg.inv(right)
    t_left, t_right, n_left, n_right = a @ a.T, a.T @ a, b @ b.T, b.T @ b
    new = []
    for i, (q, t, n) in enumerate(((left, t_left, n_left), (right, t_right, n_right))):
        dense = bounds[i + 2]
        t, n = (t, n) if dense else (np.diag(np.diag(t)), np.diag(np.diag(n)))
        size = spectral(t + n) if dense else (t + n).max()
        bounds[i] = max(0.9 * bounds[i] + 0.1 * size, size)
        new.append(q - lr / bounds[i] * np.triu(t - n) @ q)
    return new


def reference(w, stream, lr, momentum=0.0, fit_lr=0.1, max_size=8192, scale=None, weight_decay=0.0, damping=1e-9):
    shape = w.shape
    order, (m, n) = as_matrix(shape)
    back = np.argsort(order) if order else ()
    mean = np.zeros((m, n))
    bounds = [0.0, 0.0, 1 < m <= max_size, 1 < n <= max_size]
    for t, g in enumerate(stream):
        g = np.transpose(g, order).reshape(m, n)
        if t == 0:
            s = (np.mean(g**4) + damping**4) ** (-1 / 8) if scale is None else scale
            left, right = s**0.5 * np.eye(m), s**0.5 * np.eye(n)
        left, right = fit(left, right, bounds, (None, g), t, fit_lr, damping)
        b = min(t / (t + 1), momentum)
        mean = b * mean + (1 - b) * g
        u = left.T @ left @ mean @ right.T @ right
        u = np.clip(u / max(1.0, np.sqrt(np.mean(u**2)) / 2.0), -10.0, 10.0)
        u = np.transpose(u.reshape([shape[i] for i in order]), back) if order else u.reshape(shape)
        w = (1 - lr * weight_decay) * w - lr * u
    return w


def repeated(state, n):
    """Return the state of ``n`` members that are all the same one."""
    return map_tensors(lambda t: t.expand(n, *t.shape[1:]), state)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"momentum": 0.9, "weight_decay": 0.1}, {"momentum": 0.9, "weight_decay": 0.1}),
        (
            {"preconditioner_max_size": 4, "preconditioner_lr": 0.5, "preconditioner_init_scale": 0.1},
            {"max_size": 4, "fit_lr": 0.5, "scale": 0.1},
        ),
    ],
)
def test_equals_a_plain_loop(ours, theirs):
    stream = with_gaps(gradients(25))
    moved = run(lambda ps: PSGDAffine(ps, lr=0.05, **ours), stream, start())
    assert_close(moved, each(lambda w, gs: reference(w, gs, 0.05, **theirs), stream, start()), 1e-9)


def test_headline_a_vector_is_whitened_by_a_dense_factor():
    rng = np.random.default_rng(0)
    n = 12
    mix = np.linalg.qr(rng.standard_normal((n, n)))[0] * np.logspace(0, -1.5, n)  # covariance of condition 1000
    state = None
    for t in range(1000):
        part = FittedAffine(lr=0.5 * 0.02 ** (t / 1000))
        g = torch.tensor(mix @ rng.standard_normal(n))[None]
        state = part.init(g) if state is None else state
        part.observe(state, Evidence(gradient=g))
    p = part.apply(repeated(state, n), torch.eye(n, dtype=torch.float64)).numpy()
    assert np.linalg.norm(p @ (mix @ mix.T) @ p - np.eye(n)) / np.sqrt(n) < 0.35


def test_triangular_factors_keep_a_positive_diagonal():
    part = FittedAffine(lr=0.9)
    state = part.init(torch.empty(2, 4, 5))
    for step in range(200):
        g = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(step)) * 10.0 ** (step % 7 - 3)
        g[0] = 0.0
        part.observe(state, Evidence(gradient=g))
        part.refresh(state)
    for q in (state.left, state.right):
        assert q.isfinite().all()
        assert (q.diagonal(dim1=-2, dim2=-1) > 0).all()
        assert torch.equal(q, q.triu())
