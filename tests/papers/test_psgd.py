"""PSGD with Kronecker factors against a plain loop, and how white the gradients become."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError, Evidence
from precond.filters.clip import ClipAmplitude
from precond.math.draws import normals
from precond.math.norms import largest_eigenvalue, largest_singular_value
from precond.optim import Optimizer, PSGDKron
from precond.preconditioners.fitted_kron import FittedKron
from precond.recipes.psgd import psgd_kron
from tests.papers.networks import assert_close, each, gradients, run, start, with_gaps

EPS = np.finfo(np.float64).eps


def spectral(a):
    """Eight power iterations from the column of largest norm."""
    v = a[:, np.argmax(np.linalg.norm(a, axis=0))]
    for _ in range(8):
        v = a @ (v / max(np.linalg.norm(v), 1e-300))
    return np.linalg.norm(v)


def drawn(shape, step):
    """Return the noise of a step; what is drawn is no part of the method."""
    return normals(torch.tensor([step]), torch.empty(1, *shape, dtype=torch.float64))[0].numpy()


def on_axis(matrix, tensor, axis):
    return np.moveaxis(np.tensordot(matrix, tensor, axes=(1, axis)), 0, axis)


def reference(
    w, stream, lr, momentum=0.0, preconditioner_lr=0.1, max_size=8192, scale=None, weight_decay=0.0, damping=1e-9
):
    shape, modes = w.shape, tuple(n for n in w.shape if n != 1) or (1,)
    w, k = w.reshape(modes), len(modes)
    m, bounds = np.zeros(modes), [0.0] * k
    dense = [not (n <= 1 or n > max_size or n**2 > w.size) for n in modes]
    for t, g in enumerate(stream):
        g = g.reshape(modes)
        if t == 0:
            s = (np.mean(g**4) + damping**4) ** (-1 / 8) if scale is None else scale
            qs = [s ** (1 / k) * np.eye(n) for n in modes]
        h = g + (damping + EPS * np.abs(g)) * drawn(modes, t)
        for i, q in enumerate(qs):
            h = on_axis(q.T @ q, h, i)
        new = []
        for i, (n, q) in enumerate(zip(modes, qs, strict=True)):
            unfolded = np.moveaxis(h, i, 0).reshape(n, -1)
            t1 = unfolded @ unfolded.T
            t1 = t1 if dense[i] else np.diag(np.diag(t1))
            t2 = w.size / n
            size = (spectral(t1) if dense[i] else t1.max()) + t2
            bounds[i] = max(0.9 * bounds[i] + 0.1 * size, size)
            q = q - preconditioner_lr / bounds[i] * (t1 @ q - t2 * q)
            if dense[i]:
                r = q.T - q
                r = r / (spectral(r) + np.finfo(np.float64).tiny)
                slope, bend = np.trace(r @ q), np.trace(r @ r @ q)
                a = min(-slope / bend, 0.125) if bend < 0 else 0.125
                q = q + a * (r @ q + a / 2 * r @ r @ q)
            new.append(q)
        qs = new
        b = min(t / (t + 1), momentum)
        u = m = b * m + (1 - b) * g
        for i, q in enumerate(qs):
            u = on_axis(q.T @ q, u, i)
        u = np.clip(u / max(1.0, np.sqrt(np.mean(u**2)) / 2.0), -10.0, 10.0)
        w = (1 - lr * weight_decay) * w - lr * u
    return w.reshape(shape)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"momentum": 0.9, "weight_decay": 0.1}, {"momentum": 0.9, "weight_decay": 0.1}),
        (
            {"preconditioner_max_size": 4, "preconditioner_lr": 0.5, "preconditioner_init_scale": 0.1},
            {"max_size": 4, "preconditioner_lr": 0.5, "scale": 0.1},
        ),
    ],
)
def test_equals_a_plain_loop(ours, theirs):
    stream = with_gaps(gradients(25))
    moved = run(lambda ps: PSGDKron(ps, lr=0.05, **ours), stream, start())
    assert_close(moved, each(lambda w, gs: reference(w, gs, 0.05, **theirs), stream, start()), 1e-9)


def test_damping_adds_noise():
    stream = gradients(15)
    ours = run(lambda ps: Optimizer(ps, psgd_kron(damping=0.3), lr=0.05), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.05, damping=0.3), stream, start()), 1e-9)


def test_headline_gradients_become_white():
    rng = np.random.default_rng(0)
    m, n = 10, 10
    left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] * np.logspace(0, -1, d) for d in (m, n))
    state = None
    for t in range(1500):
        part = FittedKron(lr=0.5 if t < 500 else 0.05)
        g = torch.tensor(left @ rng.standard_normal((m, n)) @ right.T)[None]
        state = part.init(g) if state is None else state
        part.observe(state, Evidence(gradient=g))
    white = []
    for _ in range(2000):
        g = torch.tensor(left @ rng.standard_normal((m, n)) @ right.T)[None]
        white.append(part.apply(state, g)[0].numpy())
    white = np.array(white)
    for moment, size in (
        (np.einsum("sij,skj->ik", white, white), m),
        (np.einsum("sij,sik->jk", white, white), n),
    ):
        moment = moment * size / np.trace(moment)
        assert np.linalg.norm(moment - np.eye(size)) / np.sqrt(size) < 0.25
    assert np.mean(white**2) == pytest.approx(1.0, rel=0.2)


def test_zero_gradients_stay_bounded_and_factors_stay_positive():
    part = FittedKron(lr=0.5)
    state = part.init(torch.empty(2, 4, 4))
    for step in range(300):
        g = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(step))
        g[0] = 0.0
        part.observe(state, Evidence(gradient=g))
        part.refresh(state)
    for q in state.factors:
        assert q.isfinite().all()
        assert (torch.linalg.det(q.double()) > 0).all()
    assert part.apply(state, torch.ones(2, 4, 4)).isfinite().all()


def test_balancing_leaves_the_product_as_it_is():
    part = FittedKron(init_scale=1.0)
    v = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    state = part.init(v)
    state.factors[0].mul_(1e6)
    before = part.apply(state, v)
    part.refresh(state)
    torch.testing.assert_close(part.apply(state, v), before, rtol=1e-12, atol=0)
    assert state.factors[0].abs().max() == pytest.approx(float(state.factors[1].abs().max()))


def test_spectral_estimates_are_bounds_from_below():
    x = torch.randn(50, 7, 7, generator=torch.Generator().manual_seed(0)).double()
    for estimate, matrices in (
        (largest_eigenvalue(x @ x.mT), x @ x.mT),
        (largest_singular_value(x - x.mT), x - x.mT),
    ):
        exact = torch.linalg.matrix_norm(matrices, 2)
        assert (estimate <= exact * (1 + 1e-12)).all()
        assert (estimate >= 0.7 * exact).all()
    assert largest_eigenvalue(torch.zeros(1, 3, 3)).tolist() == [0.0]


@pytest.mark.parametrize("size", [1e-35, 1.0, 1e35])
def test_spectral_estimates_of_large_sides_neither_overflow_nor_vanish(size):
    everything = torch.full((1, 3000, 3000), size)
    assert largest_eigenvalue(everything).item() == pytest.approx(3000 * size, rel=1e-5)
    assert largest_eigenvalue(size * torch.eye(4)[None]).item() == pytest.approx(size, rel=1e-6)


def test_a_fit_learns_its_size_from_the_first_pair_alone():
    part = FittedKron()
    state = part.init(torch.zeros(2, 3, 3))
    gradient = torch.full((2, 3, 3), 1e-4)
    part.observe(state, Evidence(gradient=gradient))
    size = state.factors[0].diagonal(dim1=-2, dim2=-1).amax()
    part.observe(state, Evidence(gradient=1e4 * gradient))
    assert size > 2.0
    assert state.factors[0].diagonal(dim1=-2, dim2=-1).amax() > 0.5 * size
    assert state.steps.tolist() == [2, 2]


def test_clips_amplitudes_and_refuses_bad_limits():
    v = torch.tensor([[30.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    clipped = ClipAmplitude(rms=6.0, largest=10.0).push(None, v, Evidence())
    assert torch.equal(clipped, torch.tensor([[10.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
    with pytest.raises(BadInputError, match="positive"):
        ClipAmplitude(rms=0.0)
    with pytest.raises(BadInputError, match="fit"):
        FittedKron(lr=1.5)
